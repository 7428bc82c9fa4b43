"""The names of batches: which may be given."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from shlex import quote

from sqlalchemy import Connection, select

from models.batch import Batch
from worker.database.engine import Database

# Characters of a batch's name.
LONGEST_NAME = 200
# Names among which a person's is looked for.
_MOST_NAMES = 1000


class NameTaken(Exception):
    """Another batch has this name already; `free` is one that no batch has. The message says what to type: to mend that
    batch; or `cure`, by default the option with the free name."""

    def __init__(self, name: str, free: str, cure: str | None = None) -> None:
        cure = cure or f"--batch {quote(free)}"
        super().__init__(
            f"a batch named {name!r} exists already: bring corrected rows into it with `oathbulk mend {quote(name)}"
            f" FILE`, or give another name, such as: {cure}"
        )
        self.name = name
        self.free = free


class NameUnfit(Exception):
    """The name is too long, empty, begins with -, has blanks around it, or characters that cannot be printed."""


def check_name(connection: Connection, name: str) -> None:
    """Refuse a name that cannot be used. It may come from the name of a file that a stranger made, and it is printed
    again and again, also in commands, where one that begins with - would be taken for an option. Raises NameTaken,
    NameUnfit."""
    is_bare = name == name.strip() and not name.startswith("-")
    if not (is_bare and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise NameUnfit(
            f"a batch's name does not begin with -, has no blanks around it and 1 to {LONGEST_NAME} printable "
            "characters: give another --batch NAME"
        )
    if connection.scalar(select(Batch.id).where(Batch.name == name)) is not None:
        raise NameTaken(name, choose_free_name(name, read_names_like(connection, name)))


def choose_free_name(name: str, taken: Collection[str]) -> str:
    """Choose the name itself, or if it is taken, the first of NAME-2, NAME-3 … that is not."""
    further = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(each for each in further if each not in taken)


def read_names_like(connection: Connection, beginning: str) -> frozenset[str]:
    """Read the names of all batches that begin like this."""
    return frozenset(connection.scalars(select(Batch.name).where(Batch.name.startswith(beginning, autoescape=True))))


def list_names(database: Database) -> list[str]:
    """Read the names of batches, the latest first."""
    with database.reading() as connection:
        return read_latest_names(connection)


def read_latest_names(connection: Connection) -> list[str]:
    """Read the names of batches within a transaction, the latest first."""
    return list(connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(_MOST_NAMES)))
