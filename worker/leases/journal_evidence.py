"""Writes what journals show of OTPs into the records of a database that was restored and does not know it. A record's
status stays as it is: the next attempt, a replay or a rescue reads what is written here. Every function works in the
caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Float, Row, and_, bindparam, case, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from models.reason import Reason
from models.record import Record
from models.record_states import OtpState, Status
from worker.database.engine import Database
from worker.leases.lane_statements import bind
from worker.leases.record_columns import PROGRESS_TYPES, progress_columns, progress_parameters
from worker.rules.progress import OtpProgress, Progress

_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    Record.id,
    Record.row_number,
    Record.device_id,
    Record.status,
    Record.has_second_otp,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.verdict,
    Record.next_counter,
)


def find_records(
    connection: Connection, batch_id: int, row_numbers: Sequence[int], *, is_locking: bool
) -> Sequence[Row[Any]]:
    """Find the records of these rows of a batch. Locked, nobody changes them before the transaction ends."""
    mine = select(*_COLUMNS).where(Record.batch_id == batch_id, Record.row_number.in_(row_numbers))
    mine = mine.order_by(Record.row_number)
    return connection.execute(mine.with_for_update() if is_locking else mine).all()


def read_progress(row: Row[Any]) -> Progress:
    """How far the OTPs of a record have come, from a row that `find_records` found."""
    return Progress(
        first=OtpProgress(OtpState(row.otp1_state), row.otp1_posts),
        second=OtpProgress(OtpState(row.otp2_state), row.otp2_posts) if row.has_second_otp else None,
        verdict=Reason(row.verdict) if row.verdict else None,
        next_counter=row.next_counter,
    )


def count_in_hand(database: Database, connection: Connection, batch_id: int) -> int:
    """Count the records that are queued, or that a worker may be at work on."""
    is_held = and_(Record.status == Status.ACTIVATING, Record.lease_until > database.now())
    in_hand = or_(Record.status == Status.QUEUED, is_held)
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id, in_hand)) or 0


def write_progress(
    database: Database, connection: Connection, found: Sequence[tuple[int, Progress]], read_delay: float
) -> None:
    """Write how far the OTPs of these records have come, by record id. None of them is due before `read_delay` seconds
    from now: a call that went out before the database was lost may still be running."""
    soonest = database.now(bindparam("read_delay", type_=Float()))
    learn = (
        update(Record)
        .where(Record.id == bindparam("record_id"))
        .values(
            **progress_columns(bind(PROGRESS_TYPES)),
            # A rescue counts from it when the device may be read.
            otp_sent_at=database.now(),
            scheduled_at=case((Record.scheduled_at < soonest, soonest), else_=Record.scheduled_at),
        )
    )
    rows = [
        progress_parameters(progress) | {"record_id": record_id, "read_delay": read_delay}
        for record_id, progress in found
    ]
    connection.execute(learn, rows)
