"""How records that failed or were cancelled are tried again: by a replay with the values that they have, or by a mend
with new values from a person. A replay leaves some of them unchanged; this module says which, and why. Every function
works in the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from models.batch import Batch
from models.person import NAMES
from models.reason import OF_THE_PERSON, TRANSIENT, Reason
from models.record import Record, all_posts, has_begun
from models.record_indexes import NOT_FINAL
from models.record_states import ENDED_BY_PERSON, OtpState, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import had_device, had_token, is_in_undo, keep_former, move, put_off, was_cancelled

# Reasons of dead letters that continue where they stopped, since their OTPs were not refused.
_REASONS_THAT_KEEP_OTPS = TRANSIENT | {Reason.FORBIDDEN}
# Reasons of dead letters whose token is looked for in PingOne's inventory again.
REASONS_OF_THE_INVENTORY = frozenset(
    {Reason.TOKEN_NOT_IN_INVENTORY, Reason.TOKEN_DIFFERS, Reason.TOKEN_TAKEN, Reason.TOKEN_REFUSED}
)
# Reasons of dead letters that failed for a reason other than their OTPs: the OTPs are good unless PingOne answered one
# of them.
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
    """Make dead letters of a batch with these reasons pending again; without reasons, all of its dead letters and the
    records that were cancelled with it. `chosen`: only these records. Records that an undo closed are tried again only
    if they are chosen, since most of them belong to people who have left. Returns how many records are tried again.

    A record with a refused OTP needs fresh OTPs from a mend. A seed makes them by itself, under a new budget unless the
    replay schedule calls this. A record whose token was tried again in another batch stays unchanged."""
    again = _begin_again(database)
    if not is_scheduled:
        again |= _begin_new_budget()
    may_go = _may_go_again(database, batch_id, chosen)
    dead = and_(may_go, true() if reasons is None else Record.reason.in_(reasons))
    cancelled = and_(may_go, true() if chosen is not None else was_cancelled())
    if not is_scheduled:
        keep_former(connection, Record.status == Status.DEAD_LETTER, dead)
        if reasons is None:
            keep_former(connection, Record.status == Status.CANCELLED, cancelled)
    _look_for_tokens_again(connection, may_go, reasons)
    count = connection.execute(move(database, Status.DEAD_LETTER, Status.PENDING).where(dead).values(again)).rowcount
    if reasons is None:
        back = move(database, Status.CANCELLED, Status.PENDING).where(cancelled)
        count += connection.execute(back.values(again | _forget_removed())).rowcount
    put_off(connection, batch_id)
    if count:
        # The preparation of the batch starts over: it has not searched for these records in the inventory.
        connection.execute(update(Batch).where(Batch.id == batch_id).values(prepared_until=null()))
    return count


def _may_go_again(database: Database, batch_id: int, chosen: ColumnElement[bool] | None) -> ColumnElement[bool]:
    return and_(
        Record.batch_id == batch_id,
        Record.otps.is_not(None),
        ~went_again(),
        ~_is_in_progress_elsewhere(database),
        true() if chosen is None else chosen,
        is_replayable(),
    )


def mend(database: Database, connection: Connection, source: Status, rows: Sequence[Mapping[str, Any]]) -> int:
    """Make records with the status `source` pending again, with new values. A row has the record's id as `this_id`, and
    every row has the same columns. Returns how many records still had that status."""
    if not rows:
        return 0
    names = [name for name in rows[0] if name != "this_id"]
    named = {name: bindparam(f"new_{name}", type_=Record.__table__.c[name].type) for name in names}
    cleared = {"verdict": None, "resynced": False}
    again = move(database, source, Status.PENDING).where(Record.id == bindparam("this_id"))
    keep_former(connection, Record.id.in_([row["this_id"] for row in rows]), Record.status == source)
    values = [{name if name == "this_id" else f"new_{name}": value for name, value in row.items()} for row in rows]
    return connection.execute(again.values(_begin_again(database) | cleared | named), values).rowcount


def may_be_put_back(database: Database) -> ColumnElement[bool]:
    """Whether a record that was given out can wait to be given out again: nothing was sent for it, and if it failed,
    its person was the cause."""
    failed = and_(Record.status == Status.DEAD_LETTER, Record.reason.in_(OF_THE_PERSON))
    may_wait = or_(
        Record.status.in_((Status.PENDING, Status.QUEUED)),
        and_(failed, ~went_again(), ~_is_in_progress_elsewhere(database)),
    )
    return and_(may_wait, ~has_begun(), Record.device_id == "", ~is_in_undo(database))


def put_back(database: Database, connection: Connection, record_id: int) -> bool:
    """Let a record that was given out wait to be given out again. False: that is no longer possible."""
    free = and_(Record.id == record_id, may_be_put_back(database))
    keep_former(connection, free)
    nobody = {"user_id": "", **dict.fromkeys(NAMES)}
    waiting = update(Record).where(Record.status == Status.PENDING)
    queued = move(database, Status.QUEUED, Status.PENDING)
    failed = move(database, Status.DEAD_LETTER, Status.PENDING).values(_begin_again(database))
    count = 0
    for source in (waiting, queued, failed):
        count += connection.execute(source.where(free).values(nobody)).rowcount
    return count == 1


def _begin_again(database: Database) -> dict[str, Any]:
    """The new column values of every record that is tried again."""
    return {
        "reason": None,
        "detail": None,
        "scheduled_at": database.now(),
        "attempts_forgiven": Record.attempts,
        "not_found": 0,
        "pairings": 0,
    }


def _forget_removed() -> dict[str, ColumnElement[bool]]:
    """The new column values of records that an undo closed: a device or token that it removed no longer counts as made,
    so that it is made again."""
    return {
        "is_device_made": and_(Record.is_device_made, ~had_device()),
        "is_token_made": and_(Record.is_token_made, ~had_token()),
    }


def _look_for_tokens_again(
    connection: Connection, condition: ColumnElement[bool], reasons: Collection[str] | None
) -> None:
    """Forget what the inventory said about tokens whose records failed because of that: a person has changed it since.
    A device that we made stays known."""
    wanted = REASONS_OF_THE_INVENTORY & set(reasons) if reasons is not None else REASONS_OF_THE_INVENTORY
    failed = and_(Record.status == Status.DEAD_LETTER, Record.reason.in_(wanted), condition)
    batches = select(Record.batch_id).where(failed)
    connection.execute(update(Batch).where(Batch.id.in_(batches)).values(inventory_read_at=null()))
    was_found = and_(Record.owner_id.is_not(None), ~Record.is_device_made)
    forgotten = update(Record).where(failed, Record.pairing != PairingState.PAIRED)
    connection.execute(
        forgotten.values(
            is_in_inventory=Record.is_token_made,
            import_job_id=null(),
            device_id=case((was_found, ""), else_=Record.device_id),
            owner_id=null(),
        )
    )


def _begin_new_budget() -> dict[str, ColumnElement[Any]]:
    """The column values with which a record with a seed begins a new pair and a new budget. Without a seed, they stay
    unchanged. A new budget does not make an unknown outcome known: `sent` stays while the device can be read.

    After an OTP 1 that was answered, one counter is skipped: if PingOne still waits for the second OTP, it would take
    the next OTP 1 for the second OTP, and refuse it since it comes without `oathResync`."""
    has_seed = Record.next_counter.is_not(None)
    may_wait_for_second = and_(Record.otp1_state == OtpState.ANSWERED, Record.otp2_state == OtpState.UNSENT)
    return {
        "next_counter": case((may_wait_for_second, Record.next_counter + 1), else_=Record.next_counter),
        "otp1_state": _renew(Record.otp1_state),
        "otp2_state": _renew(Record.otp2_state),
        "otp1_posts": case((has_seed, 0), else_=Record.otp1_posts),
        "otp2_posts": case((has_seed, 0), else_=Record.otp2_posts),
        "posts_forgiven": case((has_seed, all_posts()), else_=Record.posts_forgiven),
    }


def _renew(state: InstrumentedAttribute[str]) -> ColumnElement[Any]:
    """The state of an OTP under a new budget of a seed."""
    is_open = and_(state == OtpState.SENT, Record.device_id != "")
    return case((and_(Record.next_counter.is_not(None), ~is_open), OtpState.UNSENT), else_=state)


def went_again() -> ColumnElement[bool]:
    """Whether another record of the same token or device has been loaded, replayed or mended since."""
    other = aliased(Record)
    return or_(*(exists().where(condition) for condition in went_again_in(other)))


def went_again_in(other: type[Record], first: type[Record] = Record) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Two conditions under which the first record's OTPs must not be sent again, because another record's OTPs are or
    were sent. Either the other record has the same token, and is from a later batch, or ended later after a replay or a
    mend. Or it has the same device, which a mistake in a file may give to another token, is later in the same sense,
    and is active or had an OTP posted."""
    was_worked_on = or_(other.reason.is_(None), other.reason.not_in(ENDED_BY_PERSON))
    ended_later = and_(other.finalized_at > first.finalized_at, was_worked_on)
    is_later = or_(other.id > first.id, ended_later)
    posts = other.otp1_posts + other.otp2_posts + other.posts_forgiven
    is_same_token, is_same_device = _is_same(other, first)
    was_used = or_(other.status == Status.ACTIVE, posts > 0)
    return and_(is_same_token, is_later), and_(is_same_device, is_later, was_used)


def _is_same(other: type[Record], first: type[Record] = Record) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Two conditions: another record has the same token, and it has the same device. The database has an index for each
    condition, and none for both."""
    is_here = other.environment_id == first.environment_id
    # Written as in the partial index. Two records without a device do not have the same one.
    have_devices = (record.device_id != literal_column("''") for record in (other, first))
    is_same_device = and_(other.device_id == first.device_id, *have_devices)
    return and_(is_here, other.serial_key == first.serial_key), and_(is_here, is_same_device)


def _is_in_progress_elsewhere(database: Database) -> ColumnElement[bool]:
    """Whether a record of the same token or device, loaded meanwhile, has no final status yet; or an undo is working on
    the token or the device."""
    other = aliased(Record, name="other")
    return or_(*(exists().where(condition) for condition in _are_in_progress(database, other)))


def _are_in_progress(database: Database, other: type[Record]) -> tuple[ColumnElement[bool], ...]:
    """Conditions under which a record keeps another one with its token or device from being tried again: it is not
    final, or an undo is working on it."""
    # Written as in the partial unique indexes, so that the database can use them.
    unfinished = (and_(same, text(f"other.{NOT_FINAL}")) for same in _is_same(other))
    return *unfinished, *(and_(same, is_in_undo(database, other)) for same in _is_same(other))


def is_replayable() -> ColumnElement[bool]:
    """Whether a record that failed or was cancelled has OTPs that may still be sent, or a seed that makes new ones. A
    record that an undo closed may have failed before, so PingOne must not have answered any of its OTPs."""
    is_untouched = and_(Record.otp1_state != OtpState.ANSWERED, Record.otp2_state != OtpState.ANSWERED)
    return or_(
        Record.next_counter.is_not(None),
        Record.reason.in_(_REASONS_THAT_KEEP_OTPS),
        and_(or_(Record.reason.in_(_REASONS_BESIDE_OTPS), Record.status == Status.CANCELLED), is_untouched),
        was_cancelled(),
    )


class Why(StrEnum):
    """Why a replay leaves a record unchanged."""

    # One of its OTPs was refused: it needs fresh OTPs from a mend.
    FRESH_OTPS = "fresh_otps"
    # Its token was active, so its seed was erased, and the device or the token has been removed since.
    SEED_ERASED = "seed_erased"
    # An undo or a person closed it, and it was not chosen.
    TAKEN_BACK = "taken_back"
    # A later batch brought OTPs of the same token, or another record of that token has been tried again since.
    LOADED_AGAIN = "loaded_again"
    # Another batch has an unfinished record of the same token or device; or an undo works on it.
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """How many records a replay left unchanged for the same cause. `reason`: the dead letters' reason, or "cancelled".
    `batch`: the other batch with their tokens; None if there is none."""

    records: int
    reason: str
    why: Why
    batch: str | None = None


def find_not_replayed(
    database: Database,
    connection: Connection,
    batch_id: int,
    reasons: Collection[str] | None,
    chosen: ColumnElement[bool] | None,
) -> tuple[NotReplayed, ...]:
    """Count the records that a replay left unchanged, by cause, the largest group first. `reasons` and `chosen` are the
    replay's."""
    not_replayed = _select_not_replayed(database, batch_id, reasons, is_chosen=chosen is not None)
    cause = (not_replayed if chosen is None else not_replayed.where(chosen)).subquery().c
    counted = (
        select(func.count().label("records"), cause.reason, cause.why, cause.batch)
        .group_by(cause.reason, cause.why, cause.batch)
        .order_by(func.count().desc(), cause.reason, cause.why, cause.batch)
    )
    return tuple(NotReplayed(row.records, row.reason, Why(row.why), row.batch) for row in connection.execute(counted))


def _select_not_replayed(
    database: Database, batch_id: int, reasons: Collection[str] | None, *, is_chosen: bool
) -> Select[str, str, str | None]:
    """Select the records that a replay left unchanged: the reason of each, why it stays unchanged, and the other
    batch."""
    is_dead = Record.status == Status.DEAD_LETTER
    is_asked = or_(is_dead, Record.status == Status.CANCELLED)
    if reasons is not None:
        is_asked = and_(is_dead, Record.reason.in_(reasons))
    other = aliased(Record, name="other")
    in_progress = _latest_batch(other, *_are_in_progress(database, other))
    later = _latest_batch(other, *went_again_in(other))
    had_seed = and_(Record.next_counter.is_not(None), Record.otps.is_(None))
    why = case(
        (in_progress.is_not(None), Why.IN_PROGRESS),
        (later.is_not(None), Why.LOADED_AGAIN),
        (had_seed, Why.SEED_ERASED),
        (false() if is_chosen else Record.reason.in_(ENDED_BY_PERSON), Why.TAKEN_BACK),
        else_=Why.FRESH_OTPS,
    )
    reason = case((is_dead, Record.reason), else_=Record.status)
    batch = func.coalesce(in_progress, later)
    columns = reason.label("reason"), why.label("why"), batch.label("batch")
    return select(*columns).where(Record.batch_id == batch_id, is_asked)


def _latest_batch(other: type[Record], *conditions: ColumnElement[bool]) -> ColumnElement[str]:
    """The name of the batch with the latest record that meets the first of these conditions that any record meets."""
    names = select(Batch.name).join(other, other.batch_id == Batch.id).order_by(other.id.desc()).limit(1)
    return func.coalesce(*(names.where(condition).correlate(Record).scalar_subquery() for condition in conditions))
