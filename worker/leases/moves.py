"""How a status is written, and which records may get one: every change is one arrow of the table of transitions, and
its WHERE clause names the status that it starts from. What a person's pause, cancel, undo and dates do to the records
of a batch, and how records are given up before their first call. Every function works in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from models.base import LONGEST_DETAIL
from models.batch import Batch, BatchState
from models.reason import Reason, find_cure
from models.record import Record, has_begun, needs_read
from models.record_states import FINAL, NOBODY, TAKEN_BACK, TRANSITIONS, UNTIL_LET_GO, OtpState, PairingState, Status
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


# An undo

# Ids that one statement names: SQLite takes 32,766 parameters, and PostgreSQL 65,535.
_CHUNK = 1000
# The statuses in which a record may be undone. Of these, `cancelled` stays as it is.
_SOURCES = (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING)
# What is told of a record of which an undo took something back.
_TAKEN_BACK: dict[str, Any] = {
    "reason": TAKEN_BACK,
    "detail": "An undo took it back. It goes again by a mend that names another person, or brings OTPs or the seed; or"
    " by a replay that chooses it (--where).",
}


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A pending record that workers are kept from: it was due at `due_at`, and is due at `until`."""

    id: int
    due_at: datetime
    until: datetime


def had_device() -> ColumnElement[bool]:
    """Whether a record made a device that was taken away since, or was found gone."""
    return and_(Record.is_device_made, Record.device_id == "")


def had_token() -> ColumnElement[bool]:
    """Whether a record imported a token that was taken away since, or was found gone."""
    return and_(Record.is_token_made, ~Record.is_in_inventory)


def note_device_gone(
    database: Database, connection: Connection, record_id: int, device_id: str, *, was_made: bool
) -> bool:
    """Write down that the record has no device any more, and cancel it unless it is cancelled. `device_id` is the one
    that its row has: empty where only a look-up showed what came of its pairing, and with that whether a device
    `was_made`. False: the row has changed meanwhile, or somebody is at work on it."""
    mine = and_(Record.id == record_id, Record.device_id == device_id)
    return _cancel(database, connection, mine, _without_device() | {"is_device_made": was_made}) == 1


def has_nothing_open() -> ColumnElement[bool]:
    """Whether a record waits, and nothing went out for it; or is a dead letter without a device of ours, or was
    cancelled so with its batch."""
    is_fresh = and_(Record.status == Status.PENDING, ~has_begun())
    has_device = and_(Record.is_device_made, Record.device_id != "")
    return or_(is_fresh, and_(or_(Record.status == Status.DEAD_LETTER, was_cancelled()), ~has_device))


def was_cancelled() -> ColumnElement[bool]:
    """Whether a record was cancelled with its batch, and no undo took it back."""
    return and_(Record.status == Status.CANCELLED, Record.reason.is_distinct_from(TAKEN_BACK))


def take_back(database: Database, connection: Connection, record_ids: Sequence[int]) -> None:
    """Cancel those of these records of which nothing is open, and keep them from a replay of all."""
    mine = Record.id.in_(record_ids)
    connection.execute(update(Record).where(mine, was_cancelled(), has_nothing_open()).values(_TAKEN_BACK))
    for source in (Status.PENDING, Status.DEAD_LETTER):
        cancelled = move(database, source, Status.CANCELLED).where(mine, has_nothing_open())
        connection.execute(cancelled.values(_TAKEN_BACK))


def note_tokens_gone(database: Database, connection: Connection, record_ids: Sequence[int]) -> int:
    """Write down that PingOne's inventory does not have the tokens of these records any more, nor a device of them, and
    cancel the records. Returns how many; records that somebody is at work on stay as they are."""
    gone = {"is_in_inventory": False, "import_job_id": null(), "owner_id": null()}
    values, count = _without_device() | gone, 0
    for start in range(0, len(record_ids), _CHUNK):
        mine = Record.id.in_(record_ids[start : start + _CHUNK])
        count += _cancel(database, connection, mine, values)
    return count


def count_in_hand(database: Database, connection: Connection, batch_id: int) -> int:
    """Count the records that are queued, or that a worker may be at work on."""
    is_held = and_(Record.status == Status.ACTIVATING, Record.lease_until > database.now())
    in_hand = or_(Record.status == Status.QUEUED, is_held)
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id, in_hand)) or 0


def keep_from_work(
    database: Database, connection: Connection, record_ids: Sequence[int], seconds: float
) -> list[KeptRecord]:
    """Let no worker take those of these records that are pending, for so many seconds, or until they are let go.
    Returns which those are."""
    until = connection.scalars(select(database.now(seconds))).one()
    pending = select(Record.id, Record.scheduled_at).where(
        Record.id.in_(record_ids), Record.status == Status.PENDING, Record.scheduled_at < until
    )
    kept = [KeptRecord(record.id, record.scheduled_at, until) for record in connection.execute(pending)]
    mine = update(Record).where(Record.id.in_([record.id for record in kept]))
    connection.execute(mine.values(scheduled_at=until))
    return kept


def let_go(connection: Connection, kept: Sequence[KeptRecord]) -> None:
    """Let workers take these records again at the time at which they were due before, unless that was changed
    meanwhile."""
    mine = update(Record).where(
        Record.id == bindparam("record_id"),
        Record.status == Status.PENDING,
        Record.scheduled_at == bindparam("kept_until"),
    )
    rows = [{"record_id": each.id, "was_due_at": each.due_at, "kept_until": each.until} for each in kept]
    if rows:
        connection.execute(mine.values(scheduled_at=bindparam("was_due_at")), rows)


def _cancel(database: Database, connection: Connection, mine: ColumnElement[bool], values: dict[str, Any]) -> int:
    """Write these values into the records, and cancel those that are not cancelled. Returns how many records."""
    # First, so that no record is counted twice.
    cancelled = update(Record).where(Record.status == Status.CANCELLED, mine).values(values)
    count = connection.execute(cancelled).rowcount
    for status in _SOURCES:
        count += connection.execute(move(database, status, Status.CANCELLED).where(mine).values(values)).rowcount
    return count


def _without_device() -> dict[str, Any]:
    """The columns of a record whose device is gone, and whose token is free.

    No OTP made the next device ACTIVE: a seed begins another pair, and leaves a counter out where OTP 1 was of unknown
    fate. A pair of which PingOne has answered an OTP stays, so that it is known if a file brings it again: no replay
    sends it."""
    has_seed = Record.next_counter.is_not(None)
    return {
        "device_id": "",
        "pairing": PairingState.UNSENT,
        "owner_id": NOBODY,
        "otp1_state": _forget_fate(Record.otp1_state, has_seed),
        "otp2_state": _forget_fate(Record.otp2_state, has_seed),
        "next_counter": case((Record.otp1_state == OtpState.SENT, Record.next_counter + 1), else_=Record.next_counter),
        "verdict": null(),
        "not_found": 0,
        "resynced": false(),
        **_TAKEN_BACK,
    }


def _forget_fate(state: Any, has_seed: ColumnElement[bool]) -> ColumnElement[str]:
    """The state of an OTP once its device is gone: with a seed there is another one, and what is of unknown fate did
    nothing."""
    return case((or_(has_seed, state == OtpState.SENT), OtpState.UNSENT), else_=state)


# Waves: a record has a date before which nothing goes out for it, from its file or by a person's command. Its due time
# is put off with it, so that a tick looks at no record that may not go.


def put_off(connection: Connection, batch_id: int) -> None:
    """Make the pending records of a batch that have a date, and have not begun, due no sooner than that."""
    waits = and_(Record.status == Status.PENDING, ~has_begun(), Record.not_before > Record.scheduled_at)
    connection.execute(update(Record).where(Record.batch_id == batch_id, waits).values(scheduled_at=Record.not_before))


def set_date(
    database: Database, connection: Connection, batch_id: int, mine: ColumnElement[bool], date: datetime | None
) -> int:
    """Let these records of a batch begin at another date, UNTIL_LET_GO or at once (None). What has begun goes on
    whatever its date, unless it turns out that nothing went out; and what was given up has it for when it goes again.
    What is active keeps its date, but is not kept back either: it was in hand then, and an undo may bring it back.
    Returns for how many that changes when they begin."""
    is_settled = and_(Record.status == Status.ACTIVE, Record.not_before.is_distinct_from(UNTIL_LET_GO))
    mine = and_(Record.batch_id == batch_id, mine, ~is_settled)
    fresh = and_(mine, ~has_begun(), Record.status.not_in(FINAL))
    is_other = ~may_begin(database) if date is None else Record.not_before.is_distinct_from(date)
    count = connection.scalar(select(func.count()).where(fresh, is_other)) or 0
    due = case((Record.scheduled_at == Record.not_before, database.now()), else_=Record.scheduled_at)
    if date is not None:
        later = literal(date, Record.not_before.type)
        due = case((due < later, later), else_=due)
    changed = update(Record).where(mine, Record.not_before.is_distinct_from(date))
    due = case((has_begun(), Record.scheduled_at), else_=due)
    connection.execute(changed.values(not_before=date, scheduled_at=due))
    connection.execute(move(database, Status.QUEUED, Status.PENDING).where(fresh, ~may_begin(database)))
    return count
