"""Whether a batch has a record that is not final, as a condition that indexes answer."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, or_, select, text

from models.batch import Batch, BatchState
from models.record import Record
from models.record_indexes import IN_WINDOW, LACKS_TOKEN, LACKS_USER
from worker.leases.order import has_pending

# Batches with records in the window, read once from the index of the window. Asked batch by batch, SQLite would look at
# all records of each.
_IN_WINDOW = select(Record.batch_id).where(text(f"record.{IN_WINDOW}"))


def is_unfinished() -> ColumnElement[bool]:
    """Whether some record of a batch is not final: pending, still to be prepared, queued or in work. Each has an index
    of its own, so that a large batch is not read through."""
    return or_(has_pending(), _has_record(LACKS_USER), _has_record(LACKS_TOKEN), Batch.id.in_(_IN_WINDOW))


def _has_record(condition: str) -> ColumnElement[bool]:
    return exists().where(Record.batch_id == Batch.id, text(f"record.{condition}")).correlate(Batch)


def has_unfinished(connection: Connection, batch_id: int) -> bool:
    """Whether some record of this batch is not final."""
    return connection.scalar(select(Batch.id).where(Batch.id == batch_id, is_unfinished())) is not None


def read_running(connection: Connection) -> list[Row[*tuple[Any, ...]]]:
    """Read id and name of each running batch that has work left, the earliest first."""
    running = select(Batch.id, Batch.name).where(Batch.state == BatchState.RUNNING, is_unfinished())
    return list(connection.execute(running.order_by(Batch.id)))
