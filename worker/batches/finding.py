"""Finds a batch by its name."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from models.batch import Batch
from models.record import Record

# Names that the message for an unknown batch lists at most.
LATEST = 5


class UnknownBatch(Exception):
    """No batch has this name; the message lists the latest ones."""


class BatchPurged(UnknownBatch):
    """The batch was purged: its records are gone. The message says what is left of it."""


def find_batch(
    connection: Connection, name: str, *columns: Any, is_locking: bool = False, may_be_purged: bool = False
) -> Row[*tuple[Any, ...]]:
    """Read these columns of the batch of this name. Locked, nobody else changes it before the transaction ends. Raises
    UnknownBatch; BatchPurged unless `may_be_purged`, since nothing can be read of its records or done with them."""
    named = select(*columns, Batch.purged_at).where(Batch.name == name)
    found = connection.execute(named.with_for_update() if is_locking else named).one_or_none()
    if found is None:
        names = connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(LATEST)).all()
        known = f"the latest are {', '.join(names)}" if names else "nothing was loaded yet"
        raise UnknownBatch(f"no batch is named {name!r}: {known}")
    if found.purged_at is not None and not may_be_purged:
        raise BatchPurged(explain_purged(name, found.purged_at))
    return found


def is_of_kept_batch() -> ColumnElement[bool]:
    """Whether the batch of a record was not purged. A purge takes the records of a batch away bit by bit, and nobody is
    shown half of them."""
    return Record.batch_id.not_in(select(Batch.id).where(Batch.purged_at.is_not(None)))


def explain_purged(name: str, purged_at: datetime) -> str:
    """Say that a batch was purged, and what is left of it."""
    named = quote(name)
    return (
        f"batch {name!r} was purged on {purged_at:%Y-%m-%d}: its records are gone, and with them the ids of what it "
        f"made in PingOne. `oathbulk status {named}` tells how it ended, `oathbulk audit {named}` what was done"
    )
