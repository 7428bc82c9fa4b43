"""Reads how a batch came to where it is, for a page that is looked at while it runs: counts, curve, commands. It takes
less than a second with a million tokens; the report, which reads every token, takes longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from models.audit import Action
from models.batch import Batch
from models.reason import CURES, Reason
from models.record_states import Status
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.reports.batch_report.contents import Command, Origin, ReasonGroup, RowCounts, Timeline
from worker.reports.batch_report.reading import describe_origin, describe_state, open_snapshot, read_commands
from worker.reports.batch_report.timeline import make_timeline
from worker.reports.batch_status import BatchStatus
from worker.reports.curve import read_curve


@dataclass(frozen=True, slots=True)
class Overview:
    """A batch: how it stands, and how it came there."""

    status: BatchStatus
    counts: RowCounts
    # Those that no later batch made active.
    dead_letters: tuple[ReasonGroup, ...]
    timeline: Timeline
    origin: Origin
    # What was commanded, the oldest first.
    commands: tuple[Command, ...]


def read_overview(database: Database, status: BatchStatus) -> Overview:
    """Read the rest of what is told of the batch whose status this is. Raises UnknownBatch."""
    with open_snapshot(database) as connection:
        batch = find_batch(connection, status.name, Batch.__table__)
        now: datetime = connection.execute(select(database.now())).scalar_one()
        commands = read_commands(connection, status.name)
        load = next((each for each in commands if each.action == Action.LOAD), None)
        counts = count_rows(status)
        curve = read_curve(database, connection, batch.id)
        return Overview(
            status=status,
            counts=counts,
            dead_letters=group_dead_letters(status),
            timeline=make_timeline(curve, commands, describe_state(batch, counts), batch.created_at, now),
            origin=describe_origin(connection, batch, load),
            commands=commands,
        )


def count_rows(status: BatchStatus) -> RowCounts:
    """Count the rows of the batch's file by how they ended; they add up to the rows of the file."""
    ended = {name: status.counts[name] for name in (Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED)}
    left_out = {"refused": status.rows_refused, "already_active": status.already_active}
    return RowCounts(**ended, open=status.left, **left_out)


def group_dead_letters(status: BatchStatus) -> tuple[ReasonGroup, ...]:
    """The dead letters by reason with its cure, the most frequent first, without those that a later batch made active;
    no token is named."""
    reasons = sorted(status.dead_letters_left.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ReasonGroup(reason, count, CURES[Reason(reason)], ()) for reason, count in reasons)
