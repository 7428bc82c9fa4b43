"""Finds a batch by its name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, select

from models.batch import Batch
from worker.batches.names import read_latest_names

# Names that the message for an unknown batch lists at most.
LATEST = 5


class UnknownBatch(Exception):
    """No batch has this name; the message names the nearest, or lists the latest ones."""


def find_batch(connection: Connection, name: str, *columns: Any, is_locking: bool = False) -> Row[*tuple[Any, ...]]:
    """Read these columns of the batch of this name. Locked, nobody else changes it before the transaction ends. Raises
    UnknownBatch."""
    named = select(*columns).where(Batch.name == name)
    found = connection.execute(named.with_for_update() if is_locking else named).one_or_none()
    if found is None:
        raise UnknownBatch(f"no batch is named {name!r}: {_name_others(name, read_latest_names(connection))}")
    return found


def _name_others(name: str, names: Sequence[str]) -> str:
    """Name the batch that was meant, or else the latest."""
    if near := get_close_matches(name, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"the latest are {', '.join(names[:LATEST])}" if names else "nothing was loaded yet"
