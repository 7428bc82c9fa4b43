"""The names of batches: which may be given."""

from __future__ import annotations

from sqlalchemy import Connection, select

from models.batch import Batch
from worker.database.engine import Database

# Characters of a batch's name.
LONGEST_NAME = 200
# Names among which a person's is looked for.
_MOST_NAMES = 1000


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


def list_names(database: Database) -> list[str]:
    """Read the names of batches, the latest first."""
    with database.reading() as connection:
        return read_latest_names(connection)


def read_latest_names(connection: Connection) -> list[str]:
    """Read the names of batches within a transaction, the latest first."""
    return list(connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(_MOST_NAMES)))
