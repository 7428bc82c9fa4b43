"""Changes of a record's status: each is one transition, and its WHERE clause names the status that it starts from. Also
the conditions under which a record may be worked on, and what a person's pause, cancel, undo, and dates do to a batch's
records. Every function works in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Update,
    and_,
    case,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from models.base import LONGEST_DETAIL
from models.batch import Batch, BatchState
from models.change import Change
from models.person import NAMES
from models.reason import Reason, find_cure
from models.record import Record, has_begun, is_on_the_table, needs_read
from models.record_states import (
    CLOSED,
    ENDED_BY_PERSON,
    FINAL,
    NOBODY,
    TAKEN_BACK,
    TRANSITIONS,
    UNTIL_LET_GO,
    OtpState,
    PairingState,
    Status,
)
from worker.database.engine import Database

# Seconds at the end of a batch's hours in which it begins no record and no import. A token that is out of step needs
# its second OTP soon after the first, or PingOne forgets the first; and an import's result is requested within the
# hours.
LAST_START = 15.0


def move(database: Database, source: Status, target: Status, *, is_by_key: bool = False) -> Update:
    """Build the statement that takes records from one status to the next, with the columns that follow from it.
    `is_by_key`: the caller names the records by id. Raises ValueError for an unknown transition."""
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
    """Whether a record that the statement names by id has this status.

    PostgreSQL cannot match an expression with a partial index, so it uses the primary key. Its statistics about
    `queued` and `activating` are always out of date, since records pass through within seconds: misled by them, it
    would read the index of the whole window to find one record."""
    return Record.status.concat("") == status


def is_batch_in(state: BatchState) -> ColumnElement[bool]:
    """Whether the batch of a record is in this state."""
    return exists().where(Batch.id == Record.batch_id, Batch.state == state)


def may_call(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether calls may go out for a record: its batch runs for `seconds_left` more seconds, and its date has come or
    it has begun."""
    return and_(exists().where(Batch.id == Record.batch_id, is_running(database, seconds_left)), may_begin(database))


def may_begin(database: Database) -> ColumnElement[bool]:
    """Whether the date of a record has come, or the record has begun. One that has begun continues: PingOne deletes a
    device that waits longer than a day, and a request of unknown outcome must be looked up."""
    return or_(Record.not_before.is_(None), Record.not_before <= database.now(), has_begun())


def is_running(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a batch runs, and its hours last for `seconds_left` more seconds. The batch stops the moment its hours
    end, not at the next tick, which pauses it."""
    is_in_hours = or_(Batch.closes_at.is_(None), Batch.closes_at > database.now(seconds_left))
    return and_(Batch.state == BatchState.RUNNING, is_in_hours)


def may_work(database: Database, seconds_left: float = 0.0) -> ColumnElement[bool]:
    """Whether a record may be worked on: its batch runs for `seconds_left` more seconds; or the batch was cancelled,
    and the record still needs a read."""
    return or_(may_call(database, seconds_left), and_(is_batch_in(BatchState.CANCELLED), needs_read()))


def hand_back_queued(database: Database, connection: Connection, batch_id: int | None = None) -> int:
    """Make the queued records of this batch, or of all batches, pending again. Returns how many."""
    back = move(database, Status.QUEUED, Status.PENDING)
    if batch_id is not None:
        back = back.where(Record.batch_id == batch_id)
    return connection.execute(back).rowcount


def cancel(database: Database, connection: Connection, batch_id: int) -> int:
    """Cancel every record of a batch that no worker holds and that needs no read, or that nobody has: a read asks about
    a person's device. Returns how many."""
    cancelled = 0
    may_end = or_(~needs_read(), is_on_the_table())
    for status in (Status.PENDING, Status.QUEUED):
        free = move(database, status, Status.CANCELLED).where(Record.batch_id == batch_id, may_end)
        cancelled += connection.execute(free).rowcount
    return cancelled


# Reason and detail of a record that a person closed.
_CLOSED: dict[str, Any] = {
    "reason": CLOSED,
    "detail": "Someone closed it. To send it again, mend it with another person, OTPs, or the seed; or replay it "
    "with --where.",
}


def close(database: Database, connection: Connection, batch_id: int, chosen: ColumnElement[bool]) -> int:
    """Cancel the chosen records of a batch that nobody works on: dead letters, and records that have not begun. Returns
    how many."""
    is_chosen = and_(Record.batch_id == batch_id, chosen)
    is_fresh = and_(Record.status == Status.PENDING, or_(~has_begun(), is_on_the_table()))
    keep_former(connection, is_chosen, or_(Record.status == Status.DEAD_LETTER, is_fresh))
    dead = move(database, Status.DEAD_LETTER, Status.CANCELLED).where(is_chosen).values(_CLOSED)
    fresh = move(database, Status.PENDING, Status.CANCELLED).where(is_chosen, is_fresh).values(_CLOSED)
    return connection.execute(dead).rowcount + connection.execute(fresh).rowcount


def give_up(
    database: Database, connection: Connection, record_ids: Sequence[int], reason: Reason, evidence: str = ""
) -> int:
    """Make these records dead letters, if they are pending. A record whose device or token still has to be read waits
    for that. `evidence`: what PingOne showed or said, in a sentence. Returns how many."""
    if not record_ids:
        return 0
    seed_detail, pair_detail = (write_detail(reason, evidence, has_seed=has_seed) for has_seed in (True, False))
    detail = case((Record.next_counter.is_not(None), seed_detail), else_=pair_detail)
    # Without a user, nothing can be read.
    may_end = and_(Record.id.in_(record_ids), or_(~needs_read(), Record.user_id == ""))
    statement = move(database, Status.PENDING, Status.DEAD_LETTER).where(may_end)
    return connection.execute(statement.values(reason=reason, detail=detail)).rowcount


def write_detail(reason: Reason, evidence: str, *, has_seed: bool) -> str:
    """Write the `detail` of a dead letter: its cure, and what PingOne showed or said."""
    return f"{find_cure(reason, has_seed=has_seed)} {evidence}".rstrip()[:LONGEST_DETAIL]


def give_out(connection: Connection, batch_id: int, given: Mapping[int, Mapping[str, Any]]) -> int:
    """Assign people to records that wait to be given out, and put these records first. `given`: the columns to set, by
    record id. Returns how many."""
    keep_former(connection, Record.id.in_(list(given)), is_on_the_table())
    count = 0
    for record_id, columns in given.items():
        waiting = update(Record).where(Record.id == record_id, is_on_the_table())
        count += connection.execute(waiting.values(columns)).rowcount
    put_first(connection, batch_id, list(given))
    return count


# The most records to put before all others together: this many people may wait at a table. More would keep the batches
# of other licenses waiting.
MOST_FIRST = 100


def put_first(connection: Connection, batch_id: int, record_ids: Sequence[int]) -> None:
    """Make these records, or the first MOST_FIRST of them, due before all others, since somebody waits for them; a
    record with a date still waits for its date. Their due time is before the batch's load (`goes_first`)."""
    loaded_at = connection.scalars(select(Batch.created_at).where(Batch.id == batch_id)).one()
    first = update(Record).where(Record.id.in_(record_ids[:MOST_FIRST]), Record.status == Status.PENDING)
    connection.execute(first.values(scheduled_at=loaded_at - timedelta(seconds=1)))
    put_off(connection, batch_id)


def goes_first() -> ColumnElement[bool]:
    """Whether somebody waits for a record (`put_first`)."""
    loaded_at = select(Batch.created_at).where(Batch.id == Record.batch_id).correlate(Record)
    return Record.scheduled_at < loaded_at.scalar_subquery()


def come_back(database: Database, seconds: ColumnElement[Any] | float) -> ColumnElement[Any]:
    """The due time of a record that becomes pending again although nothing was done: in this many seconds, behind all
    records that are due. A record that somebody waits for is due at once and keeps its place."""
    return case((goes_first(), Record.scheduled_at), else_=database.now(seconds))


# An undo

# Ids that one statement names: SQLite takes 32,766 parameters, and PostgreSQL 65,535.
_CHUNK = 1000
# The statuses from which an undo cancels a record.
_SOURCES = (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING)
# Reason and detail of a record that an undo closed.
_TAKEN_BACK: dict[str, Any] = {
    "reason": TAKEN_BACK,
    "detail": "An undo closed it. To send it again: if its OTPs or seed are kept, replay it with --where; if not, mend "
    "it with fresh OTPs, or with the vendor's file and a list.",
}


# Seconds for which an undo holds records if its command is killed: longer than a job that revokes tokens takes, and
# many times what a chunk of devices takes.
UNDO_LASTS = 900.0


@dataclass(frozen=True, slots=True)
class HeldRecords:
    """Records that an undo holds, and until when."""

    ids: Sequence[int]
    until: datetime


def keep_former(connection: Connection, *which: ColumnElement[bool], line: int | None = None) -> None:
    """Keep these records' people and devices, before a person's command changes them. `line`: the command's audit line;
    None: it is written later, in the same transaction."""
    kept = ("user_id", *NAMES, "device_id")
    former = select(Record.id, literal(line, BigInteger()), *(getattr(Record, name) for name in kept)).where(*which)
    connection.execute(insert(Change).from_select(["record_id", "audit_id", *kept], former))


def had_device() -> ColumnElement[bool]:
    """Whether a record made a device that is gone: an undo removed it, or found it removed."""
    return and_(Record.is_device_made, Record.device_id == "")


def had_token() -> ColumnElement[bool]:
    """Whether a record imported a token that is gone: an undo revoked it, or found it revoked."""
    return and_(Record.is_token_made, ~Record.is_in_inventory)


def note_device_gone(
    database: Database, connection: Connection, record_id: int, device_id: str, *, was_made: bool, line: int
) -> bool:
    """Record that a record has no device anymore, and cancel it. `device_id`: the one in its row, which is empty after
    a pairing of unknown outcome; then only a look-up has shown whether a device `was_made`. `line`: the undo's audit
    line. False: the row has changed meanwhile, or a worker has the record."""
    is_unchanged = and_(Record.id == record_id, Record.device_id == device_id)
    return _cancel(database, connection, is_unchanged, _without_device() | {"is_device_made": was_made}, line) == 1


def has_nothing_open() -> ColumnElement[bool]:
    """Whether there is nothing to remove for a record: it is pending and nothing was sent for it; or it is a dead
    letter or was cancelled with its batch, and has no device that we made."""
    is_fresh = and_(Record.status == Status.PENDING, ~has_begun())
    has_device = and_(Record.is_device_made, Record.device_id != "")
    return or_(is_fresh, and_(or_(Record.status == Status.DEAD_LETTER, was_cancelled()), ~has_device))


def was_cancelled() -> ColumnElement[bool]:
    """Whether a record was cancelled with its batch, not closed individually or by an undo."""
    is_by_itself = and_(Record.reason.is_not(None), Record.reason.in_(ENDED_BY_PERSON))
    return and_(Record.status == Status.CANCELLED, ~is_by_itself)


def take_back(database: Database, connection: Connection, record_ids: Sequence[int], line: int) -> None:
    """Cancel these records if there is nothing to remove, and exclude them from a replay of the whole batch. `line`:
    the undo's audit line."""
    is_free = and_(Record.id.in_(record_ids), has_nothing_open())
    keep_former(connection, is_free, line=line)
    connection.execute(update(Record).where(was_cancelled(), is_free).values(_TAKEN_BACK))
    for source in (Status.PENDING, Status.DEAD_LETTER):
        connection.execute(move(database, source, Status.CANCELLED).where(is_free).values(_TAKEN_BACK))


def note_tokens_gone(database: Database, connection: Connection, record_ids: Sequence[int], line: int) -> int:
    """Record that these records' tokens and devices are gone from PingOne, and cancel the records. `line`: the undo's
    audit line. Returns how many; a record that a worker has stays unchanged."""
    values = _without_device() | {"is_in_inventory": False, "import_job_id": null(), "owner_id": null()}
    chunks = [record_ids[start : start + _CHUNK] for start in range(0, len(record_ids), _CHUNK)]
    return sum(_cancel(database, connection, Record.id.in_(chunk), values, line) for chunk in chunks)


def count_in_hand(database: Database, connection: Connection, batch_id: int) -> int:
    """Count the records of a batch that are queued, or that a worker may have."""
    is_held = and_(Record.status == Status.ACTIVATING, Record.lease_until > database.now())
    in_hand = or_(Record.status == Status.QUEUED, is_held)
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id, in_hand)) or 0


def is_in_undo(database: Database, record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether an undo is working on a record's device or token."""
    return and_(record.undone_until.is_not(None), record.undone_until > database.now())


def hold(database: Database, connection: Connection, record_ids: Sequence[int]) -> HeldRecords:
    """Hold these records for an undo until they are released. A repeated undo takes over the records of a killed
    one."""
    until = connection.scalars(select(database.now(UNDO_LASTS))).one()
    connection.execute(update(Record).where(Record.id.in_(record_ids)).values(undone_until=until))
    return HeldRecords(record_ids, until)


def let_go(connection: Connection, held: Sequence[HeldRecords]) -> None:
    """Release the records that an undo held, unless another undo has taken them over meanwhile."""
    for chunk in held:
        mine = update(Record).where(Record.id.in_(chunk.ids), Record.undone_until == chunk.until)
        connection.execute(mine.values(undone_until=null()))


def _cancel(
    database: Database, connection: Connection, condition: ColumnElement[bool], values: dict[str, Any], line: int
) -> int:
    """Write these values into the records that meet the condition, and cancel them. Returns how many."""
    # If this undo has removed the record's device, it has kept the former values already.
    is_kept = exists().where(Change.record_id == Record.id, Change.audit_id == line)
    keep_former(connection, condition, Record.status.in_((Status.CANCELLED, *_SOURCES)), ~is_kept, line=line)
    # Cancelled records come first, so that none is counted twice.
    cancelled = update(Record).where(Record.status == Status.CANCELLED, condition).values(values)
    count = connection.execute(cancelled).rowcount
    for status in _SOURCES:
        count += connection.execute(move(database, status, Status.CANCELLED).where(condition).values(values)).rowcount
    return count


def _without_device() -> dict[str, Any]:
    """The columns of a record whose device is gone, and whose token is free. For the next device, a seed makes another
    pair of OTPs, and skips a counter if the outcome of OTP 1 is unknown. For a pair from a file, OTPs that PingOne has
    answered keep their state, so that they are recognized if another file has them, and no replay sends them."""
    has_seed = Record.next_counter.is_not(None)
    return {
        "device_id": "",
        "pairing": PairingState.UNSENT,
        "owner_id": NOBODY,
        "otp1_state": _forget_outcome(Record.otp1_state, has_seed),
        "otp2_state": _forget_outcome(Record.otp2_state, has_seed),
        "next_counter": case((Record.otp1_state == OtpState.SENT, Record.next_counter + 1), else_=Record.next_counter),
        "verdict": null(),
        "not_found": 0,
        "resynced": false(),
        **_TAKEN_BACK,
    }


def _forget_outcome(state: Any, has_seed: ColumnElement[bool]) -> ColumnElement[str]:
    """The state of an OTP once its device is gone: unsent if a seed makes another one, or if its outcome was unknown,
    since the next device cannot have accepted it."""
    return case((or_(has_seed, state == OtpState.SENT), OtpState.UNSENT), else_=state)


# Waves. A record may have a date, from its file or a person's command, before which nothing is sent for it. Its due
# time is moved to that date, so that no tick finds a record that may not begin.


def put_off(connection: Connection, batch_id: int) -> None:
    """Postpone a batch's pending records that have not begun to their date, if they have one that is later than their
    due time."""
    waits = and_(Record.status == Status.PENDING, ~has_begun(), Record.not_before > Record.scheduled_at)
    connection.execute(update(Record).where(Record.batch_id == batch_id, waits).values(scheduled_at=Record.not_before))


def set_date(
    database: Database, connection: Connection, batch_id: int, chosen: ColumnElement[bool], date: datetime | None
) -> int:
    """Let the chosen records of a batch start on another date, UNTIL_LET_GO, or at once (None). Returns how many
    records will start at another time because of this. A record for which something was sent continues, whatever its
    date; for a dead letter, the date applies to a replay. A closed record keeps its date. An active record keeps the
    date on which it began, since it may become pending again after an undo; but it does not keep UNTIL_LET_GO, which
    would then hold it back."""
    has_kept_date = and_(Record.status == Status.ACTIVE, Record.not_before.is_distinct_from(UNTIL_LET_GO))
    changeable = and_(Record.batch_id == batch_id, chosen, Record.status != Status.CANCELLED, ~has_kept_date)
    fresh = and_(changeable, ~has_begun(), Record.status.not_in(FINAL))
    begins_otherwise = ~may_begin(database) if date is None else Record.not_before.is_distinct_from(date)
    count = connection.scalar(select(func.count()).where(fresh, begins_otherwise)) or 0
    changed = update(Record).where(changeable, Record.not_before.is_distinct_from(date))
    connection.execute(changed.values(not_before=date, scheduled_at=_choose_due_time(database, date)))
    connection.execute(move(database, Status.QUEUED, Status.PENDING).where(fresh, ~may_begin(database)))
    return count


def _choose_due_time(database: Database, date: datetime | None) -> ColumnElement[Any]:
    """When a record with this new date is due: not before that date, and at once if only its old date postponed it. A
    record that has begun is due as before."""
    due = case((Record.scheduled_at == Record.not_before, database.now()), else_=Record.scheduled_at)
    if date is not None:
        begins_at = literal(date, Record.not_before.type)
        due = case((due < begins_at, begins_at), else_=due)
    return case((has_begun(), Record.scheduled_at), else_=due)
