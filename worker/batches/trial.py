"""Finds the first records of a batch in an environment where no token became active yet. They go alone, so that
whatever is wrong there costs only a few OTPs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from models.batch import Batch
from models.record import Record
from models.record_states import Status

# Columns of a batch whose held-back rows go from now on: the inventory is read again, since a reading gives up no
# record that does not go yet.
READ_ANEW: dict[str, Any] = {"inventory_read_at": None}


def find_trial_row(connection: Connection, environment_id: str, batch_id: int, records: int) -> int | None:
    """The row of the last of so many first records of a batch that was just written. None where a token became active
    in this environment before, or a batch of it was purged, where the batch has no more records than these, and where
    `records` is 0."""
    if not records:
        return None
    here = select(Record.id).where(Record.environment_id == environment_id, Record.status == Status.ACTIVE)
    purged = select(Batch.id).where(Batch.environment_id == environment_id, Batch.purged_at.is_not(None))
    if any(connection.scalar(active.limit(1)) is not None for active in (here, purged)):
        return None
    rows = select(Record.row_number).where(Record.batch_id == batch_id).order_by(Record.row_number)
    first = connection.scalars(rows.limit(records + 1)).all()
    return first[-2] if len(first) > records else None
