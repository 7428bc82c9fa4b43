"""A replay: which dead letters and cancelled records go again, and which of them keep their OTPs. Every function works
in the caller's transaction. What a replay leaves as it is: worker.leases.not_replayed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, or_, text
from sqlalchemy.orm import aliased

from models.reason import TRANSIENT, Reason
from models.record import NOT_FINAL, OtpState, Record, Status
from worker.database.engine import Database
from worker.leases.moves import move

# Reasons of dead letters whose OTPs were not refused, so that these may go on where they were.
_REASONS_THAT_KEEP_OTPS = TRANSIENT | {Reason.FORBIDDEN}
# Reasons of dead letters whose device stood in the way: their OTPs are good only if none was answered.
_REASONS_OF_THE_DEVICE = frozenset({Reason.LOCKED, Reason.BLOCKED})


def replay(
    database: Database,
    connection: Connection,
    batch_id: int,
    reasons: Collection[str] | None = None,
    *,
    is_scheduled: bool = False,
) -> int:
    """Make dead letters of these reasons pending again; without reasons, all dead letters and what was cancelled.
    Returns how many records.

    Records with a refused OTP stay as they are: they need fresh OTPs, by a new load; but a seed makes them by itself,
    under a new budget unless the schedule replays it. Those whose token was loaded again since stay as well."""
    again: dict[str, Any] = {"scheduled_at": database.now(), "attempts_forgiven": Record.attempts, "not_found": 0}
    if not is_scheduled:
        again |= _begin_new_budget()
    cleared = {"reason": None, "detail": None}
    mine = and_(
        Record.batch_id == batch_id, Record.otps.is_not(None), ~_was_loaded_again(), ~_is_in_progress_elsewhere()
    )
    dead = move(database, Status.DEAD_LETTER, Status.PENDING).where(mine, is_replayable())
    if reasons is not None:
        dead = dead.where(Record.reason.in_(reasons))
    count = connection.execute(dead.values(again | cleared)).rowcount
    if reasons is None:
        cancelled = move(database, Status.CANCELLED, Status.PENDING).where(mine)
        count += connection.execute(cancelled.values(again)).rowcount
    return count


def _begin_new_budget() -> dict[str, ColumnElement[Any]]:
    """The columns with which a record with a seed begins a new pair and a new budget; without a seed they stay as they
    are.

    After an OTP 1 one counter is left out: if PingOne waits for the second OTP, the next one would be taken for it, and
    refused since it comes without `oathResync`."""
    has_seed, posts = Record.next_counter.is_not(None), Record.otp1_posts + Record.otp2_posts
    may_be_waited_for = and_(Record.otp1_state != OtpState.UNSENT, Record.otp2_state == OtpState.UNSENT)
    return {
        "next_counter": case((may_be_waited_for, Record.next_counter + 1), else_=Record.next_counter),
        "otp1_state": case((has_seed, OtpState.UNSENT), else_=Record.otp1_state),
        "otp2_state": case((has_seed, OtpState.UNSENT), else_=Record.otp2_state),
        "posts_forgiven": case((has_seed, posts), else_=Record.posts_forgiven),
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
        exists().where(other.environment_id == Record.environment_id, other.device_id == Record.device_id, in_progress),
    )


def is_replayable() -> ColumnElement[bool]:
    """Whether a dead letter has OTPs that may still be sent, or a seed that makes others."""
    is_untouched = and_(Record.otp1_state != OtpState.ANSWERED, Record.otp2_state != OtpState.ANSWERED)
    return or_(
        Record.next_counter.is_not(None),
        Record.reason.in_(_REASONS_THAT_KEEP_OTPS),
        and_(Record.reason.in_(_REASONS_OF_THE_DEVICE), is_untouched),
    )
