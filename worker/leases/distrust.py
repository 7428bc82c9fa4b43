"""Distrust of a restored database: nobody knows what was sent since its backup. So its records are marked as sent with
unknown outcome, and are read before anything else is sent, as after a worker's death. Every function works in the
caller's transaction."""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch
from models.record import Record
from models.record_indexes import IN_WINDOW
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import may_begin
from worker.leases.queue import Queue

_HAS_SEED = Record.next_counter.is_not(None)
# Normally a record never has two OTPs of unknown outcome, so both together mark a distrusted seed.
_IS_SEED_TRUSTED = and_(_HAS_SEED, or_(Record.otp1_state != OtpState.SENT, Record.otp2_state != OtpState.SENT))
_IS_FIRST_UNSENT = Record.otp1_state == OtpState.UNSENT
_MAY_SECOND_GO = and_(
    ~_HAS_SEED,
    Record.has_second_otp,
    Record.otp1_state == OtpState.ANSWERED,
    Record.otp2_state == OtpState.UNSENT,
    Record.verdict.is_(None),
)
# A request to pair the record's token may have been sent since the backup.
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
    """Make every record that was queued or in progress pending again, and write lines for the lost attempts: their
    workers worked on the lost database."""
    in_window = update(Record).where(text(IN_WINDOW))
    connection.execute(in_window.values(lease_until=database.now(-1.0)))
    queue = Queue(database)
    while queue.rescue(connection):
        pass


def count_trusted(database: Database, connection: Connection) -> tuple[int, int]:
    """Count the pending records for which something may have been sent since the backup, and which are not marked yet;
    and those that wait for their date, for which nothing was sent."""
    has_come = may_begin(database)
    trusted, waiting = (func.count().filter(_IS_TRUSTED, has_come), func.count().filter(~has_come))
    counts = connection.execute(select(trusted, waiting).where(Record.status == Status.PENDING)).one()
    return counts[0], counts[1]


def find_pending(connection: Connection, after_id: int, most: int) -> Sequence[int]:
    """Find the ids of the next pending records above `after_id`, in order."""
    pending = select(Record.id).where(Record.status == Status.PENDING, Record.id > after_id)
    return connection.scalars(pending.order_by(Record.id).limit(most)).all()


def distrust(
    database: Database, connection: Connection, record_ids: Sequence[int], *, post_budget: int, over_after: float
) -> int:
    """Mark as sent everything that may have been sent for these pending records since the backup; nothing was sent for
    those that wait for their date. Returns how many were not marked before.

    The next OTP of a pair counts as posted once more. A seed skips every counter that a full budget of posts can have
    used. A request to pair counts as sent for a record without a device, if its batch may pair; its token counts as
    free if the backup knows no owner. No record is due sooner than `over_after` seconds from now: a call that was sent
    before the database was lost may still be running."""
    pending = update(Record).where(Record.id.in_(record_ids), Record.status == Status.PENDING, may_begin(database))
    soonest = database.now(over_after)
    connection.execute(pending.where(Record.scheduled_at < soonest).values(scheduled_at=soonest))
    # A post uses one counter, and after an OTP 1 of unknown outcome another one is skipped.
    skipped = 2 * post_budget - 1
    is_hotp_trusted = and_(_IS_SEED_TRUSTED, Record.otp_type == OtpType.HOTP)
    is_never_paired = and_(_MAY_BE_PAIRED, Record.pairings == 0)
    # Not `running_since`, which a command that is repeated after a restore resets.
    loaded_at = select(Batch.created_at).where(Batch.id == Record.batch_id).scalar_subquery()
    marked = pending.where(_IS_TRUSTED).values(
        otp1_state=case((or_(_IS_SEED_TRUSTED, _IS_FIRST_UNSENT), OtpState.SENT), else_=Record.otp1_state),
        otp1_posts=_count_one_more(Record.otp1_posts, _IS_FIRST_UNSENT),
        otp2_state=case((or_(_IS_SEED_TRUSTED, _MAY_SECOND_GO), OtpState.SENT), else_=Record.otp2_state),
        otp2_posts=_count_one_more(Record.otp2_posts, _MAY_SECOND_GO),
        next_counter=case((is_hotp_trusted, Record.next_counter + skipped), else_=Record.next_counter),
        pairing=case((_MAY_BE_PAIRED, PairingState.SENT), else_=Record.pairing),
        # The backup knows of nobody who has the token, so a device that is newer than the batch counts as made by it.
        owner_id=case((_MAY_BE_PAIRED, func.coalesce(Record.owner_id, NOBODY)), else_=Record.owner_id),
        pairings=_count_one_more(Record.pairings, and_(_MAY_BE_PAIRED, Record.pairing == PairingState.UNSENT)),
        pairing_began_at=case((is_never_paired, loaded_at), else_=Record.pairing_began_at),
        otp_sent_at=database.now(),
    )
    return connection.execute(marked).rowcount


def _count_one_more(column: InstrumentedAttribute[int], condition: ColumnElement[bool]) -> ColumnElement[int]:
    return column + case((condition, 1), else_=0)
