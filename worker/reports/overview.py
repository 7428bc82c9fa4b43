"""Reads what the page of a batch tells beside its status, at the desk and as a file: counts, reasons, curve, origin and
commands. The database counts, so that it takes less than a second with a million tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from models.batch import Batch
from models.reason import Reason, find_cure
from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.reports.audited import Command, Origin, describe_origin, read_commands
from worker.reports.curve import read_curve
from worker.reports.facts import BatchStatus
from worker.reports.timeline import Timeline, make_timeline


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of the batch ended how. `refused` rows did not become a record."""

    active: int = 0
    dead_letter: int = 0
    cancelled: int = 0
    # Pending, queued or in work.
    open: int = 0
    refused: int = 0

    @property
    def rows(self) -> int:
        """All rows of the batch: the sum of the others."""
        return self.active + self.dead_letter + self.cancelled + self.open + self.refused


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """The dead letters, or the refused rows, of one reason."""

    reason: str
    count: int
    cure: str


@dataclass(frozen=True, slots=True)
class Overview:
    """A batch as it was at `made_at`: how it stands, and how it came there."""

    made_at: datetime
    counts: RowCounts
    dead_letters: tuple[ReasonGroup, ...]
    # The same of refused rows; None if the batch was loaded before they were kept.
    refused: tuple[ReasonGroup, ...] | None
    timeline: Timeline
    origin: Origin
    # What was commanded, the oldest first.
    commands: tuple[Command, ...]


def read_overview(database: Database, status: BatchStatus) -> Overview:
    """Read the rest of what is told of the batch whose status this is. Raises UnknownBatch."""
    with database.reading_snapshot() as connection:
        batch = find_batch(connection, status.name, Batch.__table__)
        made_at: datetime = connection.execute(select(database.now())).scalar_one()
        commands = read_commands(connection, status.name)
        letters, refused = status.dead_letters, status.refused
        return Overview(
            made_at=made_at,
            counts=count_rows(status),
            dead_letters=_group(
                letters, {reason: find_cure(Reason(reason), has_seed=status.has_seeds) for reason in letters}
            ),
            refused=None
            if refused is None
            else _group(refused, {each: FAULT_CURES[RowFault(each)] for each in refused}),
            timeline=make_timeline(read_curve(database, connection, batch.id), commands, status, made_at),
            origin=describe_origin(batch, commands),
            commands=commands,
        )


def count_rows(status: BatchStatus) -> RowCounts:
    """Count the rows of the batch by how they ended."""
    ended = {name: status.counts[name] for name in (Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED)}
    return RowCounts(**ended, open=status.left, refused=status.rows_refused)


def _group(counts: Mapping[str, int], cures: Mapping[str, str]) -> tuple[ReasonGroup, ...]:
    """The reasons with their cures, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ReasonGroup(reason, count, cures[reason]) for reason, count in ordered)
