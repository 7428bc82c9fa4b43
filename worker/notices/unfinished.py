"""Whether a batch has a record that is not final, as a condition that indexes answer."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_, text

from models.batch import Batch
from models.record import Record
from models.record_indexes import IN_WINDOW, LACKS_TOKEN, LACKS_USER
from worker.leases.order import has_pending


def is_unfinished() -> ColumnElement[bool]:
    """Whether some record of a batch is not final: pending, still to be prepared, queued or in work. Each has an index
    of its own, so that a large batch is not read through."""
    return or_(has_pending(), *map(_has_record, (LACKS_USER, LACKS_TOKEN, IN_WINDOW)))


def _has_record(condition: str) -> ColumnElement[bool]:
    return exists().where(Record.batch_id == Batch.id, text(f"record.{condition}")).correlate(Batch)
