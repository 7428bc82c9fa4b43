"""The names of batches: which may be given."""

from __future__ import annotations

from sqlalchemy import Connection, select

from models.batch import Batch

# Characters of a batch's name.
LONGEST_NAME = 200


class NameTaken(Exception):
    """Another file's batch has this name already."""


class NameUnfit(Exception):
    """The name is too long, empty, or has characters that cannot be printed."""


def check_name(connection: Connection, name: str) -> None:
    """Refuse a name that cannot be used. It may come from the name of a file that a stranger made, and it is printed
    again and again. Raises NameTaken, NameUnfit."""
    if not (name.isprintable() and name.strip() and len(name) <= LONGEST_NAME):
        raise NameUnfit(f"a batch's name has 1 to {LONGEST_NAME} printable characters: give another --batch NAME")
    if connection.scalar(select(Batch.id).where(Batch.name == name)) is not None:
        raise NameTaken(f"a batch named {name!r} exists already, of another file: give another --batch NAME")
