"""Finds a batch by its name."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from models.batch import Batch

# Names that the message for an unknown batch lists at most.
LATEST = 5


class UnknownBatch(Exception):
    """No batch has this name; the message lists the latest ones."""


def find_batch(connection: Connection, name: str, *columns: Any, is_locking: bool = False) -> Row[*tuple[Any, ...]]:
    """Read these columns of the batch of this name. Locked, nobody else changes it before the transaction ends. Raises
    UnknownBatch."""
    named = select(*columns).where(Batch.name == name)
    found = connection.execute(named.with_for_update() if is_locking else named).one_or_none()
    if found is None:
        names = connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(LATEST)).all()
        known = f"the latest are {', '.join(names)}" if names else "nothing was loaded yet"
        raise UnknownBatch(f"no batch is named {name!r}: {known}")
    return found
