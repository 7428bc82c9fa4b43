"""Finds a batch by its name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from models.batch import Batch
from models.record import Record
from worker.batches.names import read_latest_names

# Names that the message for an unknown batch lists at most.
LATEST = 5


class UnknownBatch(Exception):
    """No batch has this name; the message names the nearest, or lists the latest ones."""


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
        raise UnknownBatch(f"no batch is named {name!r}: {_name_others(name, read_latest_names(connection))}")
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


def find_near_name(name: str, names: Sequence[str]) -> str | None:
    """Find the name that is spelt most like this one; None if none is spelt nearly so."""
    return next(iter(get_close_matches(name, names, n=1)), None)


def _name_others(name: str, names: Sequence[str]) -> str:
    """Name the batch that was meant, or else the latest."""
    if near := find_near_name(name, names):
        return f"did you mean {near!r}?"
    return f"the latest are {', '.join(names[:LATEST])}" if names else "nothing was loaded yet"
