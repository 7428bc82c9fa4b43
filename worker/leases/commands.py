"""What a person does with the records of a batch. Every function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, text
from sqlalchemy.orm import aliased

from models.reason import TRANSIENT, Reason
from models.record import NOT_FINAL, OtpState, Record, Status, needs_read
from worker.database.engine import Database
from worker.leases.moves import move

# A dead letter of these reasons had no OTP refused, so its OTPs may go on where they were.
_KEEPS_ITS_OTPS = TRANSIENT | {Reason.FORBIDDEN}
# The device stood in the way: its OTPs are good only if none was answered.
_MAY_KEEP_ITS_OTPS = frozenset({Reason.LOCKED, Reason.BLOCKED})


def hand_back_queued(database: Database, connection: Connection, batch_id: int | None = None) -> int:
    """What waits in the queue, of this batch or of all, waits in the database instead."""
    back = move(database, Status.QUEUED, Status.PENDING)
    if batch_id is not None:
        back = back.where(Record.batch_id == batch_id)
    return connection.execute(back).rowcount


def cancel(database: Database, connection: Connection, batch_id: int) -> int:
    """Everything that no worker holds and to which no read is owed. How many."""
    cancelled = 0
    for status in (Status.PENDING, Status.QUEUED):
        gone = move(database, status, Status.CANCELLED).where(Record.batch_id == batch_id, ~needs_read())
        cancelled += connection.execute(gone).rowcount
    return cancelled


def replay(database: Database, connection: Connection, batch_id: int, reasons: Collection[str] | None = None) -> int:
    """Dead letters (of these reasons, or all) and, without reasons, cancelled records: pending again. How many.

    Records with a refused OTP stay: they need fresh OTPs, by a new load. So do those that were loaded again since."""
    again = {"scheduled_at": database.now(), "attempts_forgiven": Record.attempts, "not_found": 0}
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


def _was_loaded_again() -> ColumnElement[bool]:
    """A later batch brought OTPs of this token, which go on from here or went already: older ones would be wasted."""
    later = aliased(Record, name="later")
    return exists().where(
        later.environment_id == Record.environment_id, later.serial_number == Record.serial_number, later.id > Record.id
    )


def _is_in_progress_elsewhere() -> ColumnElement[bool]:
    """The token or its device was loaded again meanwhile, and is being worked on there."""
    other = aliased(Record, name="other")
    # In the words of the partial unique indexes, so that they can serve.
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
    """Its OTPs may still be sent."""
    is_untouched = and_(Record.otp1_state != OtpState.ANSWERED, Record.otp2_state != OtpState.ANSWERED)
    return or_(Record.reason.in_(_KEEPS_ITS_OTPS), and_(Record.reason.in_(_MAY_KEEP_ITS_OTPS), is_untouched))
