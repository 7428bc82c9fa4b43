"""How a status is written, and which records may get one: every change is one arrow of the table of transitions, and
its WHERE clause names the status that it starts from."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Update, and_, exists, null, or_, update

from models.batch import Batch, BatchState
from models.record import Record, needs_read
from models.record_states import FINAL, TRANSITIONS, Status
from worker.database.engine import Database

# Seconds before its hours end from which on a batch begins no further record and no further import: a token that is out
# of step needs its second OTP soon after the first, since PingOne may have forgotten the first one when the hours begin
# again; and the result of an import is asked for while they last.
LAST_START = 15.0


def move(database: Database, source: Status, target: Status, *, is_by_key: bool = False) -> Update:
    """The statement that takes records from one status to the next, with the columns that follow from it. `is_by_key`:
    the records are named by their ids. Raises ValueError for an arrow that is not in the table."""
    if (source, target) not in TRANSITIONS:
        raise ValueError(f"no arrow leads from {source} to {target}")
    is_at_source = has_status(source) if is_by_key else Record.status == source
    statement = update(Record).where(is_at_source).values(status=target)
    if target in FINAL:
        statement = statement.values(finalized_at=database.now())
    elif source in FINAL:
        statement = statement.values(finalized_at=null())
    if target in FINAL | {Status.PENDING}:
        statement = statement.values(lease_id=null(), lease_until=null())
    return statement


def has_status(status: Status) -> ColumnElement[bool]:
    """Whether a record that the statement names by its id has this status.

    An expression leads to no partial index. The statistics of one whose records come and go within seconds are always
    out of date, and by them PostgreSQL goes through the whole window for a record that it has the key of."""
    return Record.status.concat("") == status


def is_batch_in(state: BatchState) -> ColumnElement[bool]:
    """Whether the batch of a record is in this state."""
    return exists().where(Batch.id == Record.batch_id, Batch.state == state)


def is_batch_running(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether the batch of a record runs, and its hours last for `seconds_left` more seconds."""
    return exists().where(Batch.id == Record.batch_id, is_running(database, seconds_left))


def is_running(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a batch runs, and its hours last for `seconds_left` more seconds. The second at which they end counts,
    and not the later tick that pauses the batch."""
    is_in_hours = or_(Batch.closes_at.is_(None), Batch.closes_at > database.now(seconds_left))
    return and_(Batch.state == BatchState.RUNNING, is_in_hours)


def may_work(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a record may be worked on: its batch runs for `seconds_left` more seconds; or the batch was cancelled,
    and the record still needs a read."""
    return or_(is_batch_running(database, seconds_left), and_(is_batch_in(BatchState.CANCELLED), needs_read()))
