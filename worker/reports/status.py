"""Reads from the database how the batches stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, text

from models.batch import Batch, BatchState
from models.record import Record
from models.record_indexes import IS_PREPARED, LACKS_TOKEN, LACKS_USER
from models.record_states import FINAL, Status
from worker.batches.commands import LicenseOf
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.fleet.processes import read_processes
from worker.pace.known_pace import read_pace
from worker.reports.batch_status import BatchStatus
from worker.reports.outage import read_outage
from worker.reports.preparation_pace import measure_preparation
from worker.reports.refused_rows import count_refused
from worker.reports.stall import Fleet
from worker.reports.standstill import measure_standstill
from worker.reports.taken_over import TakenOver, read_taken_over
from worker.tenants.resync import read_resync

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
            batches = [find_batch(connection, name, Batch.__table__)]
        fleet = Fleet(read_processes(database, connection))
        return [
            replace(
                _read_status(database, connection, batch),
                fleet=fleet,
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
    groups = connection.execute(_count_by_status(batch.id)).all()
    counts = {str(status): 0 for status in Status}
    for group in groups:
        counts[group.status] += group.records
    due = (group.next_due_at for group in groups if group.status == Status.PENDING and group.next_due_at)
    next_due_at = min(due, default=None)
    waiting = {
        "user": sum(group.lack_user for group in groups),
        "token": sum(group.lack_token for group in groups),
    }
    return BatchStatus(
        name=batch.name,
        environment=batch.environment,
        parent=batch.parent_id and connection.scalar(select(Batch.name).where(Batch.id == batch.parent_id)),
        state=name_state(batch, counts),
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
        refused=count_refused(connection, batch),
        already_active=batch.already_active,
        counts=counts,
        dead_letters={group.reason: group.records for group in groups if group.status == Status.DEAD_LETTER},
        **{name: sum(getattr(group, name) for group in groups) for name in _SUMS},
        created_at=batch.created_at,
        finished_at=_find_end(batch, counts, groups),
        pace=_measure_pace(database, connection, batch.id),
        next_due_at=next_due_at,
        hours=batch.daily_window,
        zone=batch.zone,
        closes_at=batch.closes_at if batch.state == BatchState.RUNNING else None,
        resumes_at=batch.resumes_at,
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
        taken_over=_read_taken_over(connection, batch, counts),
        outage=read_outage(database, connection, batch),
    )


def _read_taken_over(connection: Connection, batch: Row[*tuple[Any, ...]], counts: Mapping[str, int]) -> TakenOver:
    """Read which of its tokens a later batch took over; where all are active or in work, none was."""
    if not (counts[Status.DEAD_LETTER] or counts[Status.CANCELLED] or batch.rows_refused):
        return TakenOver()
    return read_taken_over(connection, batch.id)


def is_finished(batch: Row[*tuple[Any, ...]], counts: Mapping[str, int]) -> bool:
    """Whether every record of the batch is final."""
    return sum(counts[status] for status in FINAL) == int(batch.total)


def name_state(batch: Row[*tuple[Any, ...]], counts: Mapping[str, int]) -> str:
    """The batch's state, or "finished", which is no state of its own but a count."""
    return "finished" if is_finished(batch, counts) and batch.state != BatchState.CANCELLED else batch.state


def _find_end(
    batch: Row[*tuple[Any, ...]], counts: Mapping[str, int], groups: Sequence[Row[*tuple[Any, ...]]]
) -> datetime | None:
    """When the last record became final; None while the batch is not finished."""
    if not is_finished(batch, counts):
        return None
    return max((group.finalized_at for group in groups if group.finalized_at), default=None)


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


def _count_by_status(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Select the counts and sums of the batch's records, a row for each status and reason."""
    return (
        select(
            Record.status,
            Record.reason,
            func.count().label("records"),
            func.count().filter(Record.resynced).label("resynced"),
            func.count()
            .filter(Record.status == Status.ACTIVE, Record.otp1_posts + Record.otp2_posts == 0)
            .label("unproved"),
            func.count().filter(Record.is_token_made).label("imported"),
            func.count().filter(Record.is_device_made).label("paired"),
            func.count().filter(text(LACKS_USER)).label("lack_user"),
            func.count().filter(text(LACKS_TOKEN)).label("lack_token"),
            func.coalesce(func.sum(Record.attempts), 0).label("attempts"),
            func.coalesce(func.sum(Record.otp1_posts + Record.otp2_posts), 0).label("otp_posts"),
            func.coalesce(func.sum(Record.requests), 0).label("requests"),
            func.coalesce(func.sum(Record.rate_limited), 0).label("rate_limited"),
            func.max(Record.finalized_at).label("finalized_at"),
            func.min(Record.scheduled_at).filter(text(IS_PREPARED)).label("next_due_at"),
        )
        .where(Record.batch_id == batch_id)
        .group_by(Record.status, Record.reason)
    )
