"""How dead letters and what was cancelled go again. By a replay: which of them, which keep their OTPs, and which stay
as they are, and why; or by a mend, with what a person brought. Every function works in the caller's transaction."""

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
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.reason import TRANSIENT, Reason
from models.record import Record, all_posts
from models.record_indexes import NOT_FINAL
from models.record_states import TAKEN_BACK, OtpState, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import had_device, had_token, move, put_off, was_cancelled

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
    under a new budget unless the schedule replays it. Those whose token went again in another batch stay as well."""
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
        ~went_again(),
        ~_is_in_progress_elsewhere(),
        true() if chosen is None else chosen,
    )
    dead = move(database, Status.DEAD_LETTER, Status.PENDING).where(mine, is_replayable())
    if reasons is not None:
        dead = dead.where(Record.reason.in_(reasons))
    _look_for_tokens_again(connection, and_(mine, is_replayable()), reasons)
    count = connection.execute(dead.values(again | cleared)).rowcount
    if reasons is None:
        cancelled = move(database, Status.CANCELLED, Status.PENDING).where(mine, is_replayable())
        if chosen is None:
            cancelled = cancelled.where(was_cancelled())
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


def went_again() -> ColumnElement[bool]:
    """Whether another record of the token or of its device went again since."""
    other = aliased(Record)
    return or_(*(exists().where(condition) for condition in went_again_in(other)))


def went_again_in(other: type[Record], first: type[Record] = Record) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Whether another record of the same token is of a later batch than the first, or ended later, since a replay or a
    mend let it go again: its OTPs go, or went, and those of the first would be wasted, or are the same, and were
    answered. And whether that is so of the same device, which a slip in a file may give to another token: only if
    something went out for it there."""
    # An undo ends a record, and lets nothing go.
    ended_later = and_(other.finalized_at > first.finalized_at, other.reason.is_distinct_from(TAKEN_BACK))
    is_later = or_(other.id > first.id, ended_later)
    posts = other.otp1_posts + other.otp2_posts + other.posts_forgiven
    is_same_token, is_same_device = _is_same(other, first)
    was_used = or_(other.status == Status.ACTIVE, posts > 0)
    return and_(is_same_token, is_later), and_(is_same_device, is_later, was_used)


def _is_same(other: type[Record], first: type[Record] = Record) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Whether another record is of the same token; and whether it is of the same device: two questions, so that the
    database has an index for each."""
    is_here = other.environment_id == first.environment_id
    # In the words of the partial index: what has no device yet has none in common.
    have_devices = (each.device_id != literal_column("''") for each in (other, first))
    is_same_device = and_(other.device_id == first.device_id, *have_devices)
    return and_(is_here, other.serial_number == first.serial_number), and_(is_here, is_same_device)


def _is_in_progress_elsewhere() -> ColumnElement[bool]:
    """Whether a record of the same token or device, loaded meanwhile, has no final status yet."""
    other = aliased(Record, name="other")
    # In the words of the partial unique indexes, so that the database can use them.
    return or_(*(exists().where(same, text(f"other.{NOT_FINAL}")) for same in _is_same(other)))


def is_replayable() -> ColumnElement[bool]:
    """Whether what was given up or cancelled has OTPs that may still be sent, or a seed that makes others. What an undo
    took back may have been a dead letter."""
    is_untouched = and_(Record.otp1_state != OtpState.ANSWERED, Record.otp2_state != OtpState.ANSWERED)
    return or_(
        Record.next_counter.is_not(None),
        Record.reason.in_(_REASONS_THAT_KEEP_OTPS),
        and_(or_(Record.reason.in_(_REASONS_BESIDE_OTPS), Record.status == Status.CANCELLED), is_untouched),
        was_cancelled(),
    )


class Why(StrEnum):
    """Why a record cannot go again."""

    # One of its OTPs was refused: it needs fresh OTPs, by a mend.
    FRESH_OTPS = "fresh_otps"
    # Its token was active, so its seed was erased, and the device or the token was taken away since.
    SEED_ERASED = "seed_erased"
    # An undo took it back, and it was not chosen.
    TAKEN_BACK = "taken_back"
    # A later batch brought OTPs of the same token, or another let it go again since.
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
    in_progress = _latest_batch(other, *(and_(same, text(f"other.{NOT_FINAL}")) for same in _is_same(other)))
    later = _latest_batch(other, *went_again_in(other))
    had_seed = and_(Record.next_counter.is_not(None), Record.otps.is_(None))
    why = case(
        (in_progress.is_not(None), Why.IN_PROGRESS),
        (later.is_not(None), Why.LOADED_AGAIN),
        (had_seed, Why.SEED_ERASED),
        (false() if is_chosen else Record.reason == TAKEN_BACK, Why.TAKEN_BACK),
        else_=Why.FRESH_OTPS,
    )
    reason = case((dead, Record.reason), else_=Record.status)
    batch = func.coalesce(in_progress, later)
    return select(reason.label("reason"), why.label("why"), batch.label("batch")).where(
        Record.batch_id == batch_id, left
    )


def _latest_batch(other: type[Record], *conditions: ColumnElement[bool]) -> ColumnElement[str]:
    """The name of the batch of the latest record of which the first of these conditions holds, or else the next."""
    named = select(Batch.name).join(other, other.batch_id == Batch.id).order_by(other.id.desc()).limit(1)
    return func.coalesce(*(named.where(each).correlate(Record).scalar_subquery() for each in conditions))
