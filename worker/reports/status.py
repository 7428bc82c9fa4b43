"""What the database says of how its batches stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, text

from models.attempt import FAILED, AttemptLine
from models.batch import Batch, BatchState
from models.record import FINAL, Record, Status
from worker.batches.commands import LicenseOf
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.fleet.processes import read_processes
from worker.pace.memory import read_pace
from worker.reports.batch_status import BatchStatus
from worker.reports.stall import Fleet

# Records settled in the last so many seconds tell the pace.
PACE_SECONDS = 30.0
# Fewer say nothing.
FEWEST_SETTLED = 5


def take_environment_for_license(_: str, environment_id: str) -> str:
    """As long as nothing else is configured."""
    return environment_id


def read_statuses(
    database: Database, name: str | None = None, license_of: LicenseOf = take_environment_for_license
) -> list[BatchStatus]:
    """Of this batch, or of all, the latest first. Raises UnknownBatch."""
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


def _read_status(database: Database, connection: Connection, batch: Row[*tuple[Any, ...]]) -> BatchStatus:
    groups = connection.execute(_count_by_status(batch.id)).all()
    counts = {str(status): 0 for status in Status}
    for group in groups:
        counts[group.status] += group.records
    is_finished = sum(counts[status] for status in FINAL) == batch.total
    finalized_at = [group.finalized_at for group in groups if group.finalized_at]
    next_due_at = min((group.next_due_at for group in groups if group.status == Status.PENDING), default=None)
    return BatchStatus(
        name=batch.name,
        environment=batch.environment,
        state="finished" if is_finished and batch.state != BatchState.CANCELLED else batch.state,
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
        counts=counts,
        dead_letters={group.reason: group.records for group in groups if group.status == Status.DEAD_LETTER},
        resynced=sum(group.resynced for group in groups),
        attempts=sum(group.attempts for group in groups),
        otp_posts=sum(group.otp_posts for group in groups),
        requests=sum(group.requests for group in groups),
        rate_limited=sum(group.rate_limited for group in groups),
        created_at=batch.created_at,
        finished_at=max(finalized_at) if is_finished and finalized_at else None,
        pace=_measure_pace(database, connection, batch.id),
        next_due_at=next_due_at,
        window=batch.daily_window,
        zone=batch.zone,
        closes_at=batch.closes_at if batch.state == BatchState.RUNNING else None,
        resumes_at=batch.resumes_at,
        still_for=_measure_standstill(database, connection, batch, counts, next_due_at),
    )


def _measure_standstill(
    database: Database,
    connection: Connection,
    batch: Row[*tuple[Any, ...]],
    counts: Mapping[str, int],
    next_due_at: datetime | None,
) -> float | None:
    """Seconds since anything of what is due moved: a record was settled or failed, or became due in the first place."""
    if batch.state != BatchState.RUNNING:
        return None
    failed_at = (
        select(AttemptLine.ended_at)
        .where(AttemptLine.batch_id == batch.id, text(FAILED))
        .order_by(AttemptLine.id.desc())
    )
    settled_at = select(func.max(Record.finalized_at)).where(Record.batch_id == batch.id)
    now, moved_at = connection.execute(select(database.now(), settled_at.scalar_subquery())).one()
    in_window = counts[Status.QUEUED] + counts[Status.ACTIVATING]
    if not in_window and (next_due_at is None or next_due_at > now):
        return None
    moments = (batch.running_since, moved_at, connection.scalar(failed_at.limit(1)), None if in_window else next_due_at)
    return float(max((now - max(filter(None, moments))).total_seconds(), 0.0))


def _measure_pace(database: Database, connection: Connection, batch_id: int) -> float:
    """Over the last seconds, from the first record that was settled in them."""
    lately = select(func.count(), func.min(Record.finalized_at), database.now()).where(
        Record.batch_id == batch_id, Record.finalized_at > database.now(-PACE_SECONDS)
    )
    settled, since, now = connection.execute(lately).one()
    if settled < FEWEST_SETTLED:
        return 0.0
    return float(settled / max((now - since).total_seconds(), 1.0))


def _count_by_status(batch_id: int) -> Select[*tuple[Any, ...]]:
    """One row a status and reason."""
    return (
        select(
            Record.status,
            Record.reason,
            func.count().label("records"),
            func.count().filter(Record.resynced).label("resynced"),
            func.coalesce(func.sum(Record.attempts), 0).label("attempts"),
            func.coalesce(func.sum(Record.otp1_posts + Record.otp2_posts), 0).label("otp_posts"),
            func.coalesce(func.sum(Record.requests), 0).label("requests"),
            func.coalesce(func.sum(Record.rate_limited), 0).label("rate_limited"),
            func.max(Record.finalized_at).label("finalized_at"),
            func.min(Record.scheduled_at).label("next_due_at"),
        )
        .where(Record.batch_id == batch_id)
        .group_by(Record.status, Record.reason)
    )
