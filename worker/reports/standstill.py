"""For how long the due records of a batch have not moved: measured in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from models.attempt import FAILED, AttemptLine
from models.batch import BatchState
from models.record import Record
from worker.database.engine import Database


def measure_standstill(
    database: Database,
    connection: Connection,
    batch: Row[*tuple[Any, ...]],
    *,
    in_window: int,
    next_due_at: datetime | None,
) -> float | None:
    """Measure for how many seconds none of the due records has moved: since one was settled or failed, or since the
    first became due. `in_window`: how many are queued or in work. None if none is due, or the batch does not run."""
    if batch.state != BatchState.RUNNING:
        return None
    failed_at = (
        select(AttemptLine.ended_at)
        .where(AttemptLine.batch_id == batch.id, text(FAILED))
        .order_by(AttemptLine.id.desc())
    )
    # Without the second condition SQLite does not use the index, and looks at all records of the batch.
    settled = Record.batch_id == batch.id, Record.finalized_at.is_not(None)
    settled_at = select(func.max(Record.finalized_at)).where(*settled)
    now, moved_at = connection.execute(select(database.now(), settled_at.scalar_subquery())).one()
    if not in_window and (next_due_at is None or next_due_at > now):
        return None
    moments = (batch.running_since, moved_at, connection.scalar(failed_at.limit(1)), None if in_window else next_due_at)
    return float(max((now - max(filter(None, moments))).total_seconds(), 0.0))
