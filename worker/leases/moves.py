"""How a status is written: one arrow of the table of transitions, from the status that the WHERE clause names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Update, and_, exists, null, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch, BatchState
from models.record import EXPIRING, FINAL, HALF_DONE, LASTING, TRANSITIONS, UNSETTLED, Record, Status, needs_read
from worker.database.engine import Database

# What is pending, in three parts, and the order in which each goes: one OTP from the end, OTPs that expire, the rest.
# Each part is a partial index, and a planner takes it only for a query that asks for this order. Without, SQLite looks
# at every record of the batch, and PostgreSQL at every record there is, in the hope to meet one of these soon.
PENDING_IN_ORDER: tuple[tuple[str, InstrumentedAttribute[Any]], ...] = (
    (HALF_DONE, Record.scheduled_at),
    (EXPIRING, Record.otp_expires_at),
    (LASTING, Record.scheduled_at),
)
# The order in which a running batch goes. A read that is owed comes before fresh records: scheduled_at has moved on, so
# it would wait behind all of them. It is part of the last part as well; what was taken here is not seen there any more.
DUE_IN_ORDER = (*PENDING_IN_ORDER[:-1], (UNSETTLED, Record.scheduled_at), PENDING_IN_ORDER[-1])

# So many seconds before its window closes, a batch begins no record any more: one that is out of step needs its second
# OTP soon after the first, for PingOne may have forgotten that one when the window opens again.
LAST_START = 15.0


def move(database: Database, source: Status, target: Status) -> Update:
    """The statement that takes records from one status to the next, with the columns that follow from it."""
    if (source, target) not in TRANSITIONS:
        raise ValueError(f"no arrow leads from {source} to {target}")
    statement = update(Record).where(Record.status == source).values(status=target)
    if target in FINAL:
        statement = statement.values(finalized_at=database.now())
    if target in FINAL | {Status.PENDING}:
        statement = statement.values(lease_id=null(), lease_until=null())
    if source in FINAL:
        statement = statement.values(finalized_at=null())
    return statement


def is_batch_in(state: BatchState) -> ColumnElement[bool]:
    return exists().where(Batch.id == Record.batch_id, Batch.state == state)


def is_batch_running(database: Database, left: float = 0.0) -> ColumnElement[bool]:
    """And its window is open for `left` more seconds: the very second counts, and not the tick that finds it closed."""
    is_open = or_(Batch.closes_at.is_(None), Batch.closes_at > database.now(left))
    return exists().where(Batch.id == Record.batch_id, Batch.state == BatchState.RUNNING, is_open)


def has_pending() -> ColumnElement[bool]:
    """Of a batch: some record is pending."""
    first = [
        select(Record.id).where(Record.batch_id == Batch.id, text(condition)).order_by(order).limit(1)
        for condition, order in PENDING_IN_ORDER
    ]
    return or_(*[probe.correlate(Batch).scalar_subquery().is_not(None) for probe in first])


def may_work(database: Database, left: float = 0.0) -> ColumnElement[bool]:
    """The batch runs; or it was cancelled, and a read is still owed."""
    return or_(is_batch_running(database, left), and_(is_batch_in(BatchState.CANCELLED), needs_read()))
