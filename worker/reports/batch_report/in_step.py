"""Counts which tokens were out of step, by lot and by every other column of the file that has few values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from models.reason import Reason
from models.record_states import Status
from worker.reports.batch_report.contents import StepColumn, StepShare
from worker.reports.batch_report.standing_out import mark_groups

# Values that a column may have so that its tokens are compared; a shipment may come in many lots.
MOST_VALUES = 20
MOST_LOTS = 500
# Tokens that share a value, on average, at least. A column with a value of its own for each token says nothing of
# lots, and might be something that must not be shown.
FEWEST_TO_SHARE = 5
# Characters of a value: longer ones are remarks, and no names of a lot or a model.
LONGEST_VALUE = 80
LOT = "lot"
# PingOne asked these for a second OTP, and they did not become active.
_ASKED_IN_VAIN = frozenset({Reason.RESYNC_FAILED, Reason.SECOND_OTP_MISSING})


def tell_step(status: str, reason: str | None, *, resynced: bool, otp_posts: int) -> bool | None:
    """Whether a token was out of step: PingOne asked for a second OTP; None if no answer tells. A refused first OTP
    tells nothing: the token may be far out of step, or the OTP wrong."""
    if resynced or reason in _ASKED_IN_VAIN:
        return True
    return False if status == Status.ACTIVE and otp_posts else None


@dataclass(slots=True)
class StepTally:
    """Counts tokens one by one. A column with too many values is given up at once, so that memory stays bounded."""

    tokens: int = 0
    out_of_step: int = 0
    _groups: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)

    def add(self, is_out_of_step: bool | None, lot: str | None, extra: Mapping[str, object] | None) -> None:
        """Count a token by lot and by the further columns of its row; not if no answer tells how it was."""
        if is_out_of_step is None:
            return
        self.tokens += 1
        self.out_of_step += is_out_of_step
        for column, value in _name_values(lot, extra):
            if column not in self._given_up:
                self._count(column, value, is_out_of_step)

    def _count(self, column: str, value: str, is_out_of_step: bool) -> None:
        groups = self._groups.setdefault(column, {})
        group = groups.setdefault(value, [0, 0])
        group[0] += 1
        group[1] += is_out_of_step
        if len(groups) > (MOST_LOTS if column == LOT else MOST_VALUES) or len(value) > LONGEST_VALUE:
            self._given_up.add(column)
            del self._groups[column]

    @property
    def share(self) -> StepShare:
        """The share of all tokens."""
        return StepShare("all tokens", self.tokens, self.out_of_step)

    def make_columns(self) -> tuple[StepColumn, ...]:
        """The columns that can be compared: lots first, then in the order of the file."""
        names = sorted(self._groups, key=lambda name: name != LOT)
        return tuple(self._make_column(name) for name in names if self._is_comparable(self._groups[name]))

    def _make_column(self, name: str) -> StepColumn:
        return StepColumn(name, mark_groups({value: (each[0], each[1]) for value, each in self._groups[name].items()}))

    @staticmethod
    def _is_comparable(groups: Mapping[str, list[int]]) -> bool:
        tokens = sum(tokens for tokens, _ in groups.values())
        return len(groups) > 1 and tokens >= FEWEST_TO_SHARE * len(groups)


def _name_values(lot: str | None, extra: Mapping[str, object] | None) -> Iterator[tuple[str, str]]:
    """The columns of a row by which tokens may be compared, with its values; empty cells are no group."""
    if lot:
        yield LOT, lot
    for column, value in (extra or {}).items():
        if column != LOT and value not in (None, ""):
            yield column, str(value)
