"""How a status is written, and which records may get one: every change is one arrow of the table of transitions, and
its WHERE clause names the status that it starts from. What a person's pause and cancel do to the records of a batch,
and how records are given up before their first call."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Update, and_, case, exists, null, or_, update

from models.base import LONGEST_DETAIL
from models.batch import Batch, BatchState
from models.reason import Reason, find_cure
from models.record import Record, has_begun, needs_read
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


def may_call(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether calls may go out for a record: its batch runs, and its hours last for `seconds_left` more seconds; and it
    may begin, or has begun."""
    return and_(exists().where(Batch.id == Record.batch_id, is_running(database, seconds_left)), may_begin(database))


def may_begin(database: Database) -> ColumnElement[bool]:
    """Whether the date of a record has come. One that has begun goes on: PingOne deletes a device that waits for longer
    than a day, and what is of unknown fate is read."""
    return or_(Record.not_before.is_(None), Record.not_before <= database.now(), has_begun())


def is_running(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a batch runs, and its hours last for `seconds_left` more seconds. The second at which they end counts,
    and not the later tick that pauses the batch."""
    is_in_hours = or_(Batch.closes_at.is_(None), Batch.closes_at > database.now(seconds_left))
    return and_(Batch.state == BatchState.RUNNING, is_in_hours)


def may_work(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a record may be worked on: its batch runs for `seconds_left` more seconds; or the batch was cancelled,
    and the record still needs a read."""
    return or_(may_call(database, seconds_left), and_(is_batch_in(BatchState.CANCELLED), needs_read()))


def hand_back_queued(database: Database, connection: Connection, batch_id: int | None = None) -> int:
    """Make what is queued, of this batch or of all, pending again. Returns how many records."""
    back = move(database, Status.QUEUED, Status.PENDING)
    if batch_id is not None:
        back = back.where(Record.batch_id == batch_id)
    return connection.execute(back).rowcount


def cancel(database: Database, connection: Connection, batch_id: int) -> int:
    """Cancel every record of a batch that no worker holds and that needs no read. Returns how many."""
    cancelled = 0
    for status in (Status.PENDING, Status.QUEUED):
        gone = move(database, status, Status.CANCELLED).where(Record.batch_id == batch_id, ~needs_read())
        cancelled += connection.execute(gone).rowcount
    return cancelled


def give_up(
    database: Database, connection: Connection, record_ids: Sequence[int], reason: Reason, told: str = ""
) -> int:
    """Make these records dead letters, if they are pending. `told`: what PingOne showed or said, in a sentence. Returns
    how many."""
    if not record_ids:
        return 0
    dead = move(database, Status.PENDING, Status.DEAD_LETTER).where(Record.id.in_(record_ids))
    of_seed, of_pair = (write_detail(reason, told, has_seed=has_seed) for has_seed in (True, False))
    detail = case((Record.next_counter.is_not(None), of_seed), else_=of_pair)
    return connection.execute(dead.values(reason=reason, detail=detail)).rowcount


def write_detail(reason: Reason, told: str, *, has_seed: bool) -> str:
    """Write the `detail` of a dead letter: its cure, and what PingOne showed or said."""
    return f"{find_cure(reason, has_seed=has_seed)} {told}".rstrip()[:LONGEST_DETAIL]
