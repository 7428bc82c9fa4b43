"""What a person's commands do to records. Dead letters and what was cancelled go again: by a replay, which of them and
which keep their OTPs, and which stay as they are, and why; or by a mend, with what a person brought. By an undo, what a
record had in PingOne was taken away again: its device, or its token. After a restore, records are met with distrust.
Every function works in the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    TextClause,
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
    text,
    true,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from models.batch import Batch, BatchState
from models.reason import TRANSIENT, Reason
from models.record import Record, all_posts, has_begun
from models.record_indexes import IN_WINDOW, NOT_FINAL
from models.record_states import FINAL, NOBODY, OtpState, OtpType, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import is_batch_in, may_begin, move
from worker.leases.queue import Queue

# Reasons of dead letters whose OTPs were not refused, so that these may go on where they were.
_REASONS_THAT_KEEP_OTPS = TRANSIENT | {Reason.FORBIDDEN}
# Reasons of dead letters whose token has to be looked for in PingOne's inventory again.
REASONS_OF_THE_INVENTORY = frozenset(
    {Reason.TOKEN_NOT_IN_INVENTORY, Reason.TOKEN_DIFFERS, Reason.TOKEN_TAKEN, Reason.TOKEN_REFUSED}
)
# Reasons of dead letters where something stood in the way of the OTPs: these are good only if none was answered.
_REASONS_BESIDE_OTPS = REASONS_OF_THE_INVENTORY | {
    *(Reason.LOCKED, Reason.BLOCKED, Reason.ACCOUNT_NOT_USABLE, Reason.USER_NOT_FOUND, Reason.USER_AMBIGUOUS),
    *(Reason.TOO_MANY_DEVICES, Reason.METHOD_OFF, Reason.LICENSE, Reason.PAIRING_FAILED, Reason.DEVICE_IN_PROGRESS),
}


def replay(
    database: Database,
    connection: Connection,
    batch_id: int,
    reasons: Collection[str] | None = None,
    chosen: ColumnElement[bool] | None = None,
    *,
    is_scheduled: bool = False,
) -> int:
    """Make dead letters of these reasons pending again; without reasons, all dead letters and what was cancelled with
    the batch; of the batch's records those that are `chosen`, by default all. What an undo took back is left alone,
    since people leave, unless records are chosen. Returns how many records.

    Records with a refused OTP stay as they are: they need fresh OTPs, by a mend; but a seed makes them by itself,
    under a new budget unless the schedule replays it. Those whose token was loaded again since stay as well."""
    again = _begin_again(database)
    if not is_scheduled:
        again |= _begin_new_budget()
    cleared = {"reason": None, "detail": None}
    # What an undo has taken away is made anew.
    forgotten = {
        "is_device_made": and_(Record.is_device_made, ~had_device()),
        "is_token_made": and_(Record.is_token_made, ~had_token()),
    }
    mine = and_(
        Record.batch_id == batch_id,
        Record.otps.is_not(None),
        ~_was_loaded_again(),
        ~_is_in_progress_elsewhere(),
        true() if chosen is None else chosen,
    )
    dead = move(database, Status.DEAD_LETTER, Status.PENDING).where(mine, is_replayable())
    if reasons is not None:
        dead = dead.where(Record.reason.in_(reasons))
    _look_for_tokens_again(connection, and_(mine, is_replayable()), reasons)
    count = connection.execute(dead.values(again | cleared)).rowcount
    if reasons is None:
        cancelled = move(database, Status.CANCELLED, Status.PENDING).where(mine)
        if chosen is None:
            cancelled = cancelled.where(is_batch_in(BatchState.CANCELLED))
        count += connection.execute(cancelled.values(again | cleared | forgotten)).rowcount
    put_off(connection, batch_id)
    if count:
        # Who prepares the batch begins anew: what was read of the inventory so far does not tell of these.
        connection.execute(update(Batch).where(Batch.id == batch_id).values(prepared_until=null()))
    return count


def mend(database: Database, connection: Connection, source: Status, rows: Sequence[Mapping[str, Any]]) -> int:
    """Make records pending again that have the status `source`, with these values: of each its id as `this_id`, and of
    all the same columns. Returns how many still had that status."""
    if not rows:
        return 0
    names = [name for name in rows[0] if name != "this_id"]
    named = {name: bindparam(f"new_{name}", type_=Record.__table__.c[name].type) for name in names}
    cleared = {"reason": None, "detail": None, "verdict": None, "resynced": False}
    again = move(database, source, Status.PENDING).where(Record.id == bindparam("this_id"))
    values = [{name if name == "this_id" else f"new_{name}": value for name, value in row.items()} for row in rows]
    return connection.execute(again.values(_begin_again(database) | cleared | named), values).rowcount


def _begin_again(database: Database) -> dict[str, Any]:
    """The columns of a record that goes again, whatever made it end."""
    return {
        "scheduled_at": database.now(),
        "attempts_forgiven": Record.attempts,
        "not_found": 0,
        "pairings": 0,
    }


def _look_for_tokens_again(
    connection: Connection, condition: ColumnElement[bool], reasons: Collection[str] | None
) -> None:
    """Forget what the inventory said of the tokens of dead letters that it stood in the way of: a person has changed it
    since. A device that we made stays theirs."""
    wanted = REASONS_OF_THE_INVENTORY & set(reasons) if reasons is not None else REASONS_OF_THE_INVENTORY
    lacking = update(Record).where(Record.status == Status.DEAD_LETTER, Record.reason.in_(wanted), condition)
    was_found = and_(Record.owner_id.is_not(None), ~Record.is_device_made)
    forgotten = lacking.where(Record.pairing != PairingState.PAIRED).values(
        is_in_inventory=Record.is_token_made,
        import_job_id=null(),
        device_id=case((was_found, ""), else_=Record.device_id),
        owner_id=null(),
    )
    batches = select(Record.batch_id).where(Record.status == Status.DEAD_LETTER, Record.reason.in_(wanted), condition)
    connection.execute(update(Batch).where(Batch.id.in_(batches)).values(inventory_read_at=null()))
    connection.execute(forgotten)


def _begin_new_budget() -> dict[str, ColumnElement[Any]]:
    """The columns with which a record with a seed begins a new pair and a new budget; without a seed they stay as they
    are.

    After an OTP 1 one counter is left out: if PingOne waits for the second OTP, the next one would be taken for it, and
    refused since it comes without `oathResync`."""
    has_seed = Record.next_counter.is_not(None)
    may_be_waited_for = and_(Record.otp1_state != OtpState.UNSENT, Record.otp2_state == OtpState.UNSENT)
    return {
        "next_counter": case((may_be_waited_for, Record.next_counter + 1), else_=Record.next_counter),
        "otp1_state": case((has_seed, OtpState.UNSENT), else_=Record.otp1_state),
        "otp2_state": case((has_seed, OtpState.UNSENT), else_=Record.otp2_state),
        "otp1_posts": case((has_seed, 0), else_=Record.otp1_posts),
        "otp2_posts": case((has_seed, 0), else_=Record.otp2_posts),
        "posts_forgiven": case((has_seed, all_posts()), else_=Record.posts_forgiven),
    }


def _was_loaded_again() -> ColumnElement[bool]:
    """Whether a later batch brought OTPs of this token. Those go, or went already, so the older ones would be
    wasted."""
    later = aliased(Record, name="later")
    return exists().where(
        later.environment_id == Record.environment_id, later.serial_number == Record.serial_number, later.id > Record.id
    )


def _is_in_progress_elsewhere() -> ColumnElement[bool]:
    """Whether a record of the same token or device, loaded meanwhile, has no final status yet."""
    other = aliased(Record, name="other")
    # In the words of the partial unique indexes, so that the database can use them.
    in_progress = text(f"other.{NOT_FINAL}")
    return or_(
        exists().where(
            other.environment_id == Record.environment_id,
            other.serial_number == Record.serial_number,
            in_progress,
        ),
        exists().where(
            other.environment_id == Record.environment_id,
            other.device_id == Record.device_id,
            # In the words of the index: what has no device yet has none in common.
            text("other.device_id <> ''"),
            in_progress,
        ),
    )


def is_replayable() -> ColumnElement[bool]:
    """Whether a dead letter has OTPs that may still be sent, or a seed that makes others."""
    is_untouched = and_(Record.otp1_state != OtpState.ANSWERED, Record.otp2_state != OtpState.ANSWERED)
    return or_(
        Record.next_counter.is_not(None),
        Record.reason.in_(_REASONS_THAT_KEEP_OTPS),
        and_(Record.reason.in_(_REASONS_BESIDE_OTPS), is_untouched),
    )


class Why(StrEnum):
    """Why a record cannot go again."""

    # One of its OTPs was refused: it needs fresh OTPs, by a mend.
    FRESH_OTPS = "fresh_otps"
    # Its token was active, so its seed was erased, and the device or the token was taken away since.
    SEED_ERASED = "seed_erased"
    # An undo took it back, and it was not chosen.
    TAKEN_BACK = "taken_back"
    # A later batch brought OTPs of the same token.
    LOADED_AGAIN = "loaded_again"
    # Another batch has a record of the same token or device that is not final yet.
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """How many records a replay left for the same cause. `reason` is that of the dead letters, or "cancelled"; `batch`
    is the other batch that has the tokens; None where no other has them."""

    records: int
    reason: str
    why: Why
    batch: str | None = None


def find_not_replayed(
    connection: Connection, batch_id: int, reasons: Collection[str] | None, chosen: ColumnElement[bool] | None
) -> tuple[NotReplayed, ...]:
    """Count what a replay of these reasons (None: of all reasons, and of what was cancelled) of the `chosen` records
    (None: of all) has left, the largest group first."""
    left = _select_left(batch_id, reasons, is_chosen=chosen is not None)
    each = (left if chosen is None else left.where(chosen)).subquery()
    counted = (
        select(func.count().label("records"), each.c.reason, each.c.why, each.c.batch)
        .group_by(each.c.reason, each.c.why, each.c.batch)
        .order_by(func.count().desc(), each.c.reason, each.c.why, each.c.batch)
    )
    return tuple(NotReplayed(row.records, row.reason, Why(row.why), row.batch) for row in connection.execute(counted))


def _select_left(batch_id: int, reasons: Collection[str] | None, *, is_chosen: bool) -> Select[str, str, str | None]:
    """Each record that was left: its reason, why it stays, and the other batch."""
    dead = Record.status == Status.DEAD_LETTER
    left = or_(dead, Record.status == Status.CANCELLED) if reasons is None else and_(dead, Record.reason.in_(reasons))
    other = aliased(Record, name="other")
    is_same_token = other.serial_number == Record.serial_number
    # In the words of the partial unique indexes, and as two questions, so that the database has an index for each.
    is_in_progress = text(f"other.{NOT_FINAL}")
    in_progress = func.coalesce(
        _latest_batch(other, is_same_token, is_in_progress),
        _latest_batch(other, other.device_id == Record.device_id, text("other.device_id <> ''"), is_in_progress),
    )
    later = _latest_batch(other, is_same_token, other.id > Record.id)
    had_seed = and_(Record.next_counter.is_not(None), Record.otps.is_(None))
    is_undone = and_(Record.status == Status.CANCELLED, ~is_batch_in(BatchState.CANCELLED))
    why = case(
        (in_progress.is_not(None), Why.IN_PROGRESS),
        (later.is_not(None), Why.LOADED_AGAIN),
        (had_seed, Why.SEED_ERASED),
        (false() if is_chosen else is_undone, Why.TAKEN_BACK),
        else_=Why.FRESH_OTPS,
    )
    reason = func.coalesce(Record.reason, Record.status)
    batch = func.coalesce(in_progress, later)
    return select(reason.label("reason"), why.label("why"), batch.label("batch")).where(
        Record.batch_id == batch_id, left
    )


def _latest_batch(other: type[Record], *conditions: ColumnElement[bool] | TextClause) -> ScalarSelect[str]:
    """The name of the batch of the latest such record in the same environment."""
    return (
        select(Batch.name)
        .join(other, other.batch_id == Batch.id)
        .where(other.environment_id == Record.environment_id, *conditions)
        .order_by(other.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
    )


# An undo

# Ids that one statement names: SQLite takes 32,766 parameters, and PostgreSQL 65,535.
_CHUNK = 1000
# The statuses in which a record may be undone. Of these, `cancelled` stays as it is.
_SOURCES = (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING)
# What is told of a record of which an undo took something back.
_TAKEN_BACK: dict[str, Any] = {
    "reason": None,
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
    """Whether a record waits, and nothing went out for it; or is a dead letter without a device of ours."""
    is_fresh = and_(Record.status == Status.PENDING, ~has_begun())
    has_device = and_(Record.is_device_made, Record.device_id != "")
    return or_(is_fresh, and_(Record.status == Status.DEAD_LETTER, ~has_device))


def take_back(database: Database, connection: Connection, record_ids: Sequence[int]) -> None:
    """Cancel those of these records of which nothing is open."""
    for source in (Status.PENDING, Status.DEAD_LETTER):
        cancelled = move(database, source, Status.CANCELLED).where(Record.id.in_(record_ids), has_nothing_open())
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
    fate. A pair of which PingOne has answered an OTP is of no use to another device, so it is erased: a replay leaves
    such a record, and says that it needs fresh OTPs."""
    has_seed = Record.next_counter.is_not(None)
    is_answered = or_(Record.otp1_state == OtpState.ANSWERED, Record.otp2_state == OtpState.ANSWERED)
    return {
        "device_id": "",
        "pairing": PairingState.UNSENT,
        "owner_id": NOBODY,
        "otp1_state": _forget_fate(Record.otp1_state, has_seed),
        "otp2_state": _forget_fate(Record.otp2_state, has_seed),
        "next_counter": case((Record.otp1_state == OtpState.SENT, Record.next_counter + 1), else_=Record.next_counter),
        "otps": case((and_(~has_seed, is_answered), null()), else_=Record.otps),
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
    Returns for how many that changes when they begin."""
    mine = and_(Record.batch_id == batch_id, mine, Record.status != Status.ACTIVE)
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


# A restored database: nobody knows what went out since its backup, so its records are marked as sent, fate unknown.
# They are read before anything is sent, by the rules for a worker that died.

_HAS_SEED = Record.next_counter.is_not(None)
# No pair of OTPs has both of unknown fate, so these two together say that a seed was marked before.
_IS_SEED_TRUSTED = and_(_HAS_SEED, or_(Record.otp1_state != OtpState.SENT, Record.otp2_state != OtpState.SENT))
_IS_FIRST_UNSENT = Record.otp1_state == OtpState.UNSENT
_MAY_SECOND_GO = and_(
    ~_HAS_SEED,
    Record.has_second_otp,
    Record.otp1_state == OtpState.ANSWERED,
    Record.otp2_state == OtpState.UNSENT,
    Record.verdict.is_(None),
)
# It may have been paired since, by one of its batch's requests.
_MAY_BE_PAIRED = and_(
    Record.device_id == "",
    Record.pairing != PairingState.SENT,
    exists().where(Batch.id == Record.batch_id, Batch.may_pair),
)
_IS_TRUSTED = and_(
    Record.status == Status.PENDING,
    or_(_IS_SEED_TRUSTED, and_(~_HAS_SEED, _IS_FIRST_UNSENT), _MAY_SECOND_GO, _MAY_BE_PAIRED),
)


def take_all_back(database: Database, connection: Connection) -> None:
    """Take every lease away: who held it worked on the database that was lost. What was queued or in work is pending
    then, with the lines of lost attempts."""
    held = update(Record).where(text(IN_WINDOW))
    connection.execute(held.values(lease_until=database.now(-1.0)))
    queue = Queue(database)
    while queue.rescue(connection):
        pass


def count_trusted(database: Database, connection: Connection) -> tuple[int, int]:
    """Count the pending records that may have gone out since the backup, and are not marked; and those that wait for a
    date, for which nothing has gone out."""
    begins = may_begin(database)
    trusted, waiting = (func.count().filter(_IS_TRUSTED, begins), func.count().filter(~begins))
    counts = connection.execute(select(trusted, waiting).where(Record.status == Status.PENDING)).one()
    return counts[0], counts[1]


def find_pending(connection: Connection, after_id: int, most: int) -> Sequence[int]:
    """Find the next pending records by their ids, from the one behind `after_id` on."""
    pending = select(Record.id).where(Record.status == Status.PENDING, Record.id > after_id)
    return connection.scalars(pending.order_by(Record.id).limit(most)).all()


def distrust(
    database: Database, connection: Connection, record_ids: Sequence[int], *, post_budget: int, over_after: float
) -> int:
    """Mark what may have gone out for these pending records as sent; for those that wait for a date, nothing has.
    Returns how many were not marked before.

    The OTP of a pair that comes next counts as posted once more. A seed leaves out every counter that the posts of a
    budget can have used. Without a device, where its batch pairs, a request to pair counts as sent. None is due before
    `over_after` seconds from now: a call that went out before the database was lost may still be running."""
    mine = update(Record).where(Record.id.in_(record_ids), Record.status == Status.PENDING, may_begin(database))
    soonest = database.now(over_after)
    connection.execute(mine.where(Record.scheduled_at < soonest).values(scheduled_at=soonest))
    # A post takes one counter, and after an OTP 1 of unknown fate another one is left out.
    skipped = 2 * post_budget - 1
    is_hotp_trusted = and_(_IS_SEED_TRUSTED, Record.otp_type == OtpType.HOTP)
    is_never_paired = and_(_MAY_BE_PAIRED, Record.pairings == 0)
    # No request since the backup is older than that.
    ran_since = select(Batch.running_since).where(Batch.id == Record.batch_id).scalar_subquery()
    marked = mine.where(_IS_TRUSTED).values(
        otp1_state=case((or_(_IS_SEED_TRUSTED, _IS_FIRST_UNSENT), OtpState.SENT), else_=Record.otp1_state),
        otp1_posts=_count_one_more(Record.otp1_posts, _IS_FIRST_UNSENT),
        otp2_state=case((or_(_IS_SEED_TRUSTED, _MAY_SECOND_GO), OtpState.SENT), else_=Record.otp2_state),
        otp2_posts=_count_one_more(Record.otp2_posts, _MAY_SECOND_GO),
        next_counter=case((is_hotp_trusted, Record.next_counter + skipped), else_=Record.next_counter),
        pairing=case((_MAY_BE_PAIRED, PairingState.SENT), else_=Record.pairing),
        pairings=_count_one_more(Record.pairings, and_(_MAY_BE_PAIRED, Record.pairing == PairingState.UNSENT)),
        pairing_began_at=case((is_never_paired, ran_since), else_=Record.pairing_began_at),
        otp_sent_at=database.now(),
    )
    return connection.execute(marked).rowcount


def _count_one_more(column: InstrumentedAttribute[int], condition: ColumnElement[bool]) -> ColumnElement[int]:
    return column + case((condition, 1), else_=0)
