"""Finds batches that go on with a token of another batch: what they use stays, whoever made it."""

from __future__ import annotations

from sqlalchemy import Label, select
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_states import Status


def find_other_batch() -> Label[str]:
    """The column `other_batch`: the name of a batch whose record of the same token is active or not final; None if
    there is none."""
    other = aliased(Record, name="other")
    return (
        select(Batch.name)
        .join(other, other.batch_id == Batch.id)
        .where(
            other.environment_id == Record.environment_id,
            other.serial_number == Record.serial_number,
            other.batch_id != Record.batch_id,
            other.status.not_in((Status.DEAD_LETTER, Status.CANCELLED)),
        )
        .order_by(other.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
        .label("other_batch")
    )
