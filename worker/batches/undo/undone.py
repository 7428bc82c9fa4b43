"""What an undo has found and done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from worker.batches.undo.devices import DefaultChange, End


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left alone, and why: a record's device or token that stays in PingOne, or of which that is not known; or
    a serial number of a person's list that is nothing to the batch. `row_number` is None where it has no such row."""

    row_number: int | None
    serial_number: str
    why: str


@dataclass(slots=True)
class DeviceCounts:
    """Devices: `made` by the batch's records; pairings of unknown fate; `earlier`: those that earlier runs wrote down
    as gone; and how each of the others ended."""

    made: int = 0
    unknown_pairings: int = 0
    earlier: int = 0
    ends: Counter[End] = field(default_factory=Counter)

    def to_facts(self) -> dict[str, int]:
        """The counts, as the audit has them."""
        return {end.value: self.ends[end] for end in End if end is not End.THERE}


@dataclass(slots=True)
class TokenCounts:
    """Tokens: `own` may be revoked, `revoked` were, `gone` were revoked before, `left` stay; `not_ours` were in the
    inventory before the batch; `earlier` were written down as gone by earlier runs. `open_imports` have not ended, and
    may make tokens still. `obstacle`: what kept all, or the rest, from being revoked, and its cure."""

    own: int = 0
    revoked: int = 0
    gone: int = 0
    left: int = 0
    not_ours: int = 0
    open_imports: int = 0
    earlier: int = 0
    obstacle: str | None = None

    def to_facts(self) -> dict[str, int]:
        """The counts, as the audit has them."""
        return {"revoked": self.revoked, "gone": self.gone, "left": self.left}


@dataclass(slots=True)
class Undone:
    """What was found and done. `tokens` is None where they were not asked for; `defaults`: whose default device
    changes, by user; `kept`: what is left alone, by serial number as it is written there."""

    devices: DeviceCounts = field(default_factory=DeviceCounts)
    tokens: TokenCounts | None = None
    defaults: dict[str, DefaultChange] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing stays that was to go."""
        return not (self.kept or (self.tokens and self.tokens.obstacle))

    def keep(self, serial_number: str, row_number: int | None, why: str) -> None:
        """Note that something is left alone. Of a device and its token that stay, the device says why."""
        self.kept.setdefault(serial_number, Kept(row_number, serial_number, why))
