"""How a status is written: one arrow of the table of transitions, from the status that the WHERE clause names."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Update, and_, exists, or_, text, update

from models.batch import Batch, BatchState
from models.record import EXPIRING, FINAL, HALF_DONE, IN_WINDOW, LASTING, TRANSITIONS, Record, Status, needs_read
from worker.database import Database


def move(database: Database, source: Status, target: Status) -> Update:
    """The statement that takes records from one status to the next, with the columns that follow from it."""
    if (source, target) not in TRANSITIONS:
        raise ValueError(f"no arrow leads from {source} to {target}")
    statement = update(Record).where(Record.status == source).values(status=target)
    if target in FINAL:
        statement = statement.values(finalized_at=database.now())
    if target in FINAL | {Status.PENDING}:
        statement = statement.values(lease_id=None, lease_until=None)
    if source in FINAL:
        statement = statement.values(finalized_at=None)
    return statement


def batch_is(state: BatchState) -> ColumnElement[bool]:
    return exists().where(Batch.id == Record.batch_id, Batch.state == state)


def has_pending() -> ColumnElement[bool]:
    """Of a batch: some record is pending. Three probes, each of a partial index."""
    return or_(*map(_has, (HALF_DONE, EXPIRING, LASTING)))


def has_work_left() -> ColumnElement[bool]:
    """Of a batch: some record is not final."""
    return or_(has_pending(), _has(IN_WINDOW))


def _has(condition: str) -> ColumnElement[bool]:
    return exists().where(Record.batch_id == Batch.id, text(condition))


def may_work() -> ColumnElement[bool]:
    """The batch runs; or it was cancelled, and a read is still owed."""
    return or_(batch_is(BatchState.RUNNING), and_(batch_is(BatchState.CANCELLED), needs_read()))
