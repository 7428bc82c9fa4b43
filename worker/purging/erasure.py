"""Erases a person's names from the records of tokens that are not worked on any more."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

from sqlalchemy import Connection, Row, case, func, null, or_, select, update

from models.audit import Action
from models.batch import Batch
from models.person import NAMES
from models.record import Record
from models.record_states import FINAL, Status
from worker import audit
from worker.audit import Actor
from worker.batches.finding import is_of_kept_batch
from worker.database.engine import Database

# What of a record may name a person: the names that its file gave, further columns of the file, and what PingOne said.
_ERASED = {name: null() for name in (*NAMES, "extra", "detail")}
# The columns by which a person is found, beside PingOne's id.
_NAMES = tuple(getattr(Record, name) for name in NAMES)
# What is read of a record.
_COLUMNS = (Record.id, Record.status, Record.serial_number, Batch.name, Record.user_id, *_NAMES)


@dataclass(frozen=True, slots=True)
class Erased:
    """The records that name a person: how many of each batch are in a final status, whose names go, and serial numbers
    and batches of those that are in progress and stay."""

    batches: Counter[str] = field(default_factory=Counter)
    in_progress: Sequence[tuple[str, str]] = ()


class Erasure:
    """Erases names; one person at a time."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def examine(self, person: str) -> Erased:
        """Find the records that name the person by this user name, e-mail address, external id or PingOne's id, in
        large or small letters; and change nothing."""
        with self._database.reading() as connection:
            return _sort(_find(connection, person, is_locking=False))

    def erase(self, person: str) -> Erased:
        """Erase the names of the person from the records that are in a final status."""
        with self._database.writing() as connection:
            erased = _sort(rows := _find(connection, person, is_locking=True))
            if not erased.batches:
                return erased
            ids = [row.id for row in rows if row.status in FINAL]
            # What is not active has no name any more by which its user could be found, and may not go again.
            otps = case((Record.status == Status.ACTIVE, Record.otps), else_=null())
            connection.execute(update(Record).where(Record.id.in_(ids)).values(_ERASED | {"otps": otps}))
            facts: dict[str, Any] = {"records": len(ids), "batches": sorted(erased.batches)}
            audit.append(self._database, connection, self._actor, Action.ERASE, None, facts)
        self._database.empty_log()
        return erased


def _fold(name: str) -> str:
    """Write a name so that it is the same however it was written: in large or small letters, and with accents as
    characters of their own or not."""
    return normalize("NFC", normalize("NFC", name).casefold())


def _find(connection: Connection, person: str, *, is_locking: bool) -> list[Row[*tuple[Any, ...]]]:
    """Find the records that name this person."""
    name, user_id = _fold(person), person.lower()
    like = (func.lower(column).like(_make_pattern(name), escape="\\") for column in _NAMES)
    records = select(*_COLUMNS).join(Batch, Batch.id == Record.batch_id).where(is_of_kept_batch())
    records = records.where(or_(Record.user_id == user_id, *like)).order_by(Record.id)
    found = connection.execute(records.with_for_update(of=Record) if is_locking else records)

    def is_named(row: Row[*tuple[Any, ...]]) -> bool:
        names = (getattr(row, name) for name in NAMES)
        return row.user_id == user_id or any(each is not None and _fold(each) == name for each in names)

    return [row for row in found if is_named(row)]


def _make_pattern(name: str) -> str:
    """Make a pattern that every way to write this name fits, and a few others. SQLite, and PostgreSQL in some locales,
    know small letters of English alone, so all others are left open; so is `ss`, which is the large `ß`."""
    escaped = re.sub(r"([\\%_])", r"\\\1", name)
    return re.sub(r"[^\x00-\x7f]+|ss", "%", escaped)


def _sort(rows: Sequence[Row[*tuple[Any, ...]]]) -> Erased:
    return Erased(
        Counter(row.name for row in rows if row.status in FINAL),
        [(row.serial_number, row.name) for row in rows if row.status not in FINAL],
    )
