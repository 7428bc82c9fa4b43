"""How fast a batch is prepared, and for how long nobody has prepared it: measured in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, text

from models.batch import BatchState
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from models.record_indexes import IS_PREPARED
from worker.database.engine import Database

# Seconds after the load in which a batch is still as it was loaded: it has not been paused and resumed.
AT_LOAD = 1.0


@dataclass(frozen=True, slots=True)
class PreparationPace:
    """Records prepared a second since the batch runs; 0 while that is not known. `unprepared_for`: seconds since a
    worker last had the batch to prepare it; None if it does not run."""

    pace: float = 0.0
    unprepared_for: float | None = None


def measure_preparation(
    database: Database, connection: Connection, batch: Row[*tuple[Any, ...]], waiting: int
) -> PreparationPace:
    """Measure how a batch is prepared of which so many records wait for it."""
    if not waiting or batch.state != BatchState.RUNNING:
        return PreparationPace()
    now = connection.scalar(select(database.now()))
    assert now is not None  # noqa: S101
    pace = _measure_imports(connection, batch, now) if batch.may_import else 0.0
    return PreparationPace(pace or _measure_look_ups(connection, batch, now), measure_unprepared(batch, now))


def measure_unprepared(batch: Row[*tuple[Any, ...]], now: datetime) -> float:
    """Measure for how many seconds nobody has prepared a batch that runs."""
    since = max(filter(None, (batch.running_since, batch.prepared_until)))
    return max(float((now - since).total_seconds()), 0.0)


def _measure_imports(connection: Connection, batch: Row[*tuple[Any, ...]], now: datetime) -> float:
    """Measure the pace by the jobs that were sent since the batch runs and have ended."""
    tokens, since = connection.execute(
        select(func.sum(InventoryJob.size), func.min(InventoryJob.sent_at)).where(
            InventoryJob.batch_id == batch.id,
            InventoryJob.kind == JobKind.IMPORT,
            InventoryJob.state == JobState.DONE,
            InventoryJob.sent_at >= batch.running_since,
        )
    ).one()
    return float(tokens / max((now - since).total_seconds(), 1.0)) if tokens else 0.0


def _measure_look_ups(connection: Connection, batch: Row[*tuple[Any, ...]], now: datetime) -> float:
    """Measure the pace by the persons that were found since the load. When each was found is not written down, so
    after a pause nothing is known."""
    if (batch.running_since - batch.created_at).total_seconds() > AT_LOAD:
        return 0.0
    is_named = or_(Record.username.is_not(None), Record.email.is_not(None), Record.external_id.is_not(None))
    found = connection.scalar(select(func.count()).where(Record.batch_id == batch.id, text(IS_PREPARED), is_named))
    return float((found or 0) / max((now - batch.created_at).total_seconds(), 1.0))
