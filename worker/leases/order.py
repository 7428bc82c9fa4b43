"""The order in which pending records go, and whether a batch has any."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_, select, text
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch
from models.record import Record
from models.record_indexes import EXPIRING, HALF_DONE, LASTING, UNSETTLED

# What is pending, in three parts, and the order in which each part goes: records that lack only OTP 2, those whose OTPs
# expire, the rest. Each part has a partial index, which a planner takes only for a query that asks for this order.
# Without it, SQLite looks at every record of the batch, and PostgreSQL at every record there is, until it meets enough
# of these.
PENDING_IN_ORDER: tuple[tuple[str, InstrumentedAttribute[Any]], ...] = (
    (HALF_DONE, Record.scheduled_at),
    (EXPIRING, Record.otp_expires_at),
    (LASTING, Record.scheduled_at),
)
# The order in which the records of a running batch go. One that needs a read comes before fresh records: its
# scheduled_at has moved on, so it would wait behind all of them. It belongs to the last part as well, but once it is
# queued from here, it is not pending any more.
DUE_IN_ORDER = (*PENDING_IN_ORDER[:-1], (UNSETTLED, Record.scheduled_at), PENDING_IN_ORDER[-1])


def has_pending() -> ColumnElement[bool]:
    """Whether some record of a batch is pending."""
    first = [
        select(Record.id).where(Record.batch_id == Batch.id, text(condition)).order_by(order).limit(1)
        for condition, order in PENDING_IN_ORDER
    ]
    return or_(*[probe.correlate(Batch).scalar_subquery().is_not(None) for probe in first])
