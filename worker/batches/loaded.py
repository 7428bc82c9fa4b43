"""A file that was loaded: the batch that it became, or why it became none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from models.batch import Batch, BatchState
from worker.batches.hours import OutOfHours
from worker.observability.counting import count_things


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch that is in the database. `is_new` is False when the file had been loaded before. `out_of_hours`: where a
    new batch is outside its hours, when these begin. `left_out`: rows that were left out on purpose, since their tokens
    are active in other batches. `purged_at`: when the records of a batch that was loaded before were purged."""

    batch_id: int
    name: str
    total: int
    rows_refused: int
    is_new: bool
    out_of_hours: OutOfHours | None = None
    left_out: int = 0
    purged_at: datetime | None = None


class AllActive(Exception):
    """All rows of a file were left out, since their tokens are active: nothing is left to do, and no batch was made."""

    def __init__(self, rows: int) -> None:
        super().__init__("every token is active already")
        self.rows = rows


def find_loaded(connection: Connection, environment_id: str, fingerprint: str) -> Loaded | None:
    """Find the batch that the file of this fingerprint became earlier in the environment, unless it was cancelled."""
    columns = (Batch.id, Batch.name, Batch.total, Batch.rows_refused, Batch.purged_at)
    statement = select(*columns).where(
        Batch.environment_id == environment_id,
        Batch.file_sha256 == fingerprint,
        Batch.state != BatchState.CANCELLED,
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return Loaded(row.id, row.name, row.total, row.rows_refused, is_new=False, purged_at=row.purged_at)


def describe_known(loaded: Loaded) -> str:
    """Say which batch a file is already."""
    purged = f", and was purged on {loaded.purged_at:%Y-%m-%d}" if loaded.purged_at else ""
    return f"This file is batch {loaded.name} already: {count_things(loaded.total, 'record')}{purged}."
