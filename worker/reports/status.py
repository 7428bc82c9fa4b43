"""Reads from the database how the batches stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from models.batch import Batch, BatchState
from models.record import Record
from models.record_indexes import IN_WINDOW, IS_PREPARED
from models.record_states import FINAL, Status
from worker.batches.commands import LicenseOf
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.pace.known_pace import read_pace
from worker.reports.batch_status import BatchStatus
from worker.reports.outage import read_outage
from worker.reports.outcome import read_outcome
from worker.reports.preparation_pace import measure_preparation
from worker.reports.stall import Fleet
from worker.reports.standstill import measure_standstill
from worker.tenants import read_resync

# Seconds; the pace is measured by the records that were settled in the last ones.
PACE_SECONDS = 30.0
# Records; if fewer were settled in these seconds, they say nothing about the pace.
FEWEST_SETTLED = 5
# Columns of the groups of records whose sums the status shows.
_SUMS = ("unproved", "imported", "paired", "resynced", "attempts", "otp_posts", "requests", "rate_limited")


def take_environment_for_license(_: str, environment_id: str) -> str:
    """The license of an environment that names none: the environment's id."""
    return environment_id


def read_statuses(
    database: Database, name: str | None = None, license_of: LicenseOf = take_environment_for_license
) -> list[BatchStatus]:
    """Read how this batch stands, or all of them, the latest first. Raises UnknownBatch."""
    with database.reading() as connection:
        if name is None:
            batches = list(connection.execute(select(Batch.__table__).order_by(Batch.id.desc())))
        else:
            batches = [find_batch(connection, name, Batch.__table__, may_be_purged=True)]
        processes = read_processes(database, connection)
        return [
            replace(
                _read_status(database, connection, batch),
                fleet=Fleet(processes, batch=batch.name),
                license_pace=read_pace(database, connection, license_of(batch.environment, batch.environment_id)),
            )
            for batch in batches
        ]


def has_batch(database: Database, name: str | None = None) -> bool:
    """Whether a batch of this name, or any batch, was loaded."""
    loaded = select(Batch.id) if name is None else select(Batch.id).where(Batch.name == name)
    with database.reading() as connection:
        return connection.scalar(loaded.limit(1)) is not None


def _read_status(database: Database, connection: Connection, batch: Row[*tuple[Any, ...]]) -> BatchStatus:
    outcome = read_outcome(connection, batch)
    groups, counts = outcome.groups, outcome.counts
    due = (group.next_due_at for group in groups if group.status == Status.PENDING and group.next_due_at)
    next_due_at = min(due, default=None)
    waiting = {
        "user": sum(group.lack_user for group in groups),
        "token": sum(group.lack_token for group in groups),
    }
    return BatchStatus(
        name=batch.name,
        environment=batch.environment,
        state=name_state(batch, counts),
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
        refused=outcome.refused,
        counts=counts,
        dead_letters={group.reason or "": group.records for group in groups if group.status == Status.DEAD_LETTER},
        replayable=outcome.replayable,
        has_seeds=all(group.seeds == group.records for group in groups if group.status == Status.DEAD_LETTER),
        **{name: sum(getattr(group, name) for group in groups) for name in _SUMS},
        created_at=batch.created_at,
        finished_at=outcome.finished_at if is_finished(batch, counts) else None,
        pace=_measure_pace(database, connection, batch.id),
        next_due_at=next_due_at,
        hours=batch.daily_window,
        zone=batch.zone,
        closes_at=batch.closes_at if batch.state == BatchState.RUNNING else None,
        resumes_at=batch.resumes_at,
        in_work_until=_read_lease_end(connection, batch) if counts[Status.ACTIVATING] else None,
        still_for=measure_standstill(
            database,
            connection,
            batch,
            in_window=counts[Status.QUEUED] + counts[Status.ACTIVATING],
            next_due_at=next_due_at,
        ),
        waiting=waiting,
        may_import=batch.may_import,
        preparation=measure_preparation(database, connection, batch, sum(waiting.values())),
        needs_flag=read_resync(connection, batch.environment_id).needs,
        purged_at=batch.purged_at,
        outage=read_outage(database, connection, batch),
    )


def is_finished(batch: Row[*tuple[Any, ...]], counts: Mapping[str, int]) -> bool:
    """Whether every record of the batch is final."""
    return sum(counts[status] for status in FINAL) == int(batch.total)


def name_state(batch: Row[*tuple[Any, ...]], counts: Mapping[str, int]) -> str:
    """The batch's state, or "finished", which is no state of its own but a count."""
    return "finished" if is_finished(batch, counts) and batch.state != BatchState.CANCELLED else batch.state


def _read_lease_end(connection: Connection, batch: Row[*tuple[Any, ...]]) -> datetime | None:
    """Read when the last lease of a record in work ends; None while the batch is not paused."""
    if batch.state != BatchState.PAUSED:
        return None
    in_work = Record.batch_id == batch.id, Record.status == Status.ACTIVATING, text(IN_WINDOW)
    return connection.scalar(select(func.max(Record.lease_until)).where(*in_work))


def _measure_pace(database: Database, connection: Connection, batch_id: int) -> float:
    """Measure how many records a second were settled lately: from the first one in the last PACE_SECONDS until now.
    Those that their preparation gave up do not count: many of them end at once."""
    lately = select(func.count(), func.min(Record.finalized_at), database.now()).where(
        Record.batch_id == batch_id, Record.finalized_at > database.now(-PACE_SECONDS), text(IS_PREPARED)
    )
    settled, since, now = connection.execute(lately).one()
    if settled < FEWEST_SETTLED:
        return 0.0
    return float(settled / max((now - since).total_seconds(), 1.0))
