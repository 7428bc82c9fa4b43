"""Counts the records of a batch one by one, for the report: they are read once, and few of them are kept."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from models.reason import CURES, Reason
from models.record_states import Status
from worker.reports.batch_report.contents import ReasonGroup, RowCounts, TokenLine
from worker.reports.batch_report.durations import DurationTally, make_array
from worker.reports.batch_report.in_step import StepTally, tell_step

# Tokens that the report names for each reason of a dead letter.
MOST_PER_REASON = 200
# Tokens that the report lists; of more there is only the CSV.
MOST_TOKENS = 5000


def make_line(record: Row[*tuple[Any, ...]]) -> TokenLine:
    """What the report says of one token."""
    step = tell_step(record.status, record.reason, resynced=record.resynced, otp_posts=record.otp_posts)
    return TokenLine(
        serial_number=record.serial_number,
        row_number=record.row_number,
        person=record.username or record.email or record.external_id or record.user_id or "",
        lot=record.lot,
        status=record.status,
        reason=record.reason,
        attempts=record.attempts,
        is_out_of_step=step,
        finalized_at=record.finalized_at,
    )


@dataclass(slots=True)
class Tally:
    """What was counted so far; `active` and `settled` are times, in seconds since 1970."""

    statuses: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, list[TokenLine]] = field(default_factory=dict)
    reason_counts: dict[str, int] = field(default_factory=dict)
    lines: list[TokenLine] = field(default_factory=list)
    active: array[float] = field(default_factory=make_array)
    settled: array[float] = field(default_factory=make_array)
    durations: DurationTally = field(default_factory=DurationTally)
    steps: StepTally = field(default_factory=StepTally)
    records: int = 0

    def add(self, record: Row[*tuple[Any, ...]]) -> None:
        """Count one record."""
        line = make_line(record)
        self.records += 1
        self.statuses[line.status] = self.statuses.get(line.status, 0) + 1
        self.steps.add(line.is_out_of_step, record.lot, record.extra)
        self._keep(line)
        if line.finalized_at is not None:
            self.settled.append(line.finalized_at.timestamp())
        if line.status == Status.ACTIVE and line.finalized_at is not None:
            self.active.append(line.finalized_at.timestamp())
            self.durations.add(line.attempts, record.first_ended_at, record.otp_sent_at, line.finalized_at)

    def _keep(self, line: TokenLine) -> None:
        """Keep a token if the report names it."""
        if self.records <= MOST_TOKENS:
            self.lines.append(line)
        elif self.lines:
            self.lines.clear()
        if line.status == Status.DEAD_LETTER and line.reason is not None:
            self.reason_counts[line.reason] = self.reason_counts.get(line.reason, 0) + 1
            kept = self.reasons.setdefault(line.reason, [])
            if len(kept) < MOST_PER_REASON:
                kept.append(line)

    def count_rows(self, refused: int, already_active: int) -> RowCounts:
        """The counts of the file's rows, with those that never became a record."""
        final = {str(status): self.statuses.get(status, 0) for status in Status}
        ended = {name: final[name] for name in (Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED)}
        left = self.records - sum(ended.values())
        return RowCounts(**ended, open=left, refused=refused, already_active=already_active)

    def group_dead_letters(self) -> tuple[ReasonGroup, ...]:
        """The dead letters by reason, the most frequent first."""
        reasons = sorted(self.reason_counts, key=lambda reason: (-self.reason_counts[reason], reason))
        return tuple(
            ReasonGroup(reason, self.reason_counts[reason], CURES[Reason(reason)], tuple(self.reasons[reason]))
            for reason in reasons
        )

    @property
    def tokens(self) -> tuple[TokenLine, ...] | None:
        """All tokens, or None if there are too many."""
        return tuple(self.lines) if self.records <= MOST_TOKENS else None
