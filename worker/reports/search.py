"""Searches the records: by the beginning of what is known of a token and its user, by batch, status and reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, String, and_, cast, exists, func, or_, select, text
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch
from models.record import Record
from models.record_states import FINAL
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.reports.history import list_environment_ids, spell_serial_number

# What names a person, and what else is known of a token but for its serial number and the file's own columns.
_USER: tuple[InstrumentedAttribute[Any], ...] = (Record.user_id, Record.username, Record.email, Record.external_id)
_REST: tuple[InstrumentedAttribute[Any], ...] = (Record.device_id, *_USER, Record.lot)
# Characters of a serial number, as PingOne allows them; and one that sorts behind all of them.
_SERIAL = re.compile(r"[A-Za-z0-9]{1,50}", re.ASCII)
_BEHIND = "~"
# Collations of PostgreSQL that sort by the characters' codes, as SQLite does, in small letters.
_BY_CODE = frozenset({"c", "posix", "c.utf8", "c.utf-8"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What is searched for; None where it does not matter. `text`: with what a serial number, an id, a name or any
    further column begins. `user`: with what one of the names or ids of its user begins."""

    text: str | None = None
    batch: str | None = None
    status: str | None = None
    reason: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record that was found. `at`: when it took its final status; for a pending one, when it is due; else None."""

    record: int
    serial_number: str
    batch: str
    row: int
    environment: str
    user_id: str
    username: str | None
    email: str | None
    external_id: str | None
    device_id: str
    lot: str | None
    status: str
    reason: str | None
    scheduled_at: datetime
    finalized_at: datetime | None

    @property
    def user(self) -> str:
        """The name by which a person knows the user best."""
        return self.username or self.email or self.external_id or self.user_id

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def to_json(self) -> dict[str, Any]:
        finalized_at = self.finalized_at and self.finalized_at.isoformat()
        return asdict(self) | {"scheduled_at": self.scheduled_at.isoformat(), "finalized_at": finalized_at}


@dataclass(frozen=True, slots=True)
class Findings:
    """The records that were found, those of the latest batch first, and how many more there are. `is_by_serial_number`:
    serial numbers alone were searched, since they were enough: one is the text, or more begin with it than may be
    listed."""

    found: list[Found]
    more: int
    is_by_serial_number: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "found": [each.to_json() for each in self.found],
            "more": self.more,
            "is_by_serial_number": self.is_by_serial_number,
        }


def search(database: Database, sought: Sought, limit: int) -> Findings:
    """Find records, `limit` of them at most. Raises UnknownBatch."""
    with database.reading() as connection:
        conditions = list(_select_by_columns(connection, sought))
        if sought.text is None:
            return _read(connection, and_(True, *conditions), limit)
        if _SERIAL.fullmatch(sought.text):
            environment_ids = list_environment_ids(connection)
            known = and_(Record.environment_id.in_(environment_ids), *conditions)
            spellings = spell_serial_number(sought.text)
            same = _read(connection, and_(known, Record.serial_number.in_(spellings)), limit)
            if same.found:
                return Findings(same.found, same.more, is_by_serial_number=True)
            if _sorts_by_code(connection):
                begin = and_(known, or_(*map(_serial_number_begins, spellings)))
                serials = _read(connection, begin, limit)
                if serials.more:
                    return Findings(serials.found, serials.more, is_by_serial_number=True)
        return _read(connection, and_(_any_begins(connection, sought.text), *conditions), limit)


def _select_by_columns(connection: Connection, sought: Sought) -> Iterator[ColumnElement[bool]]:
    """The conditions but for the text. Raises UnknownBatch."""
    if sought.batch is not None:
        yield Record.batch_id == find_batch(connection, sought.batch, Batch.id).id
    if sought.status is not None:
        yield Record.status == sought.status
    if sought.reason is not None:
        yield Record.reason == sought.reason
    if sought.user is not None:
        yield or_(*(column.istartswith(sought.user, autoescape=True) for column in _USER))


def _serial_number_begins(text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text, as a range that an index serves where texts sort by the codes of
    their characters."""
    return and_(Record.serial_number >= text, Record.serial_number < text + _BEHIND)


def _any_begins(connection: Connection, sought: str) -> ColumnElement[bool]:
    """Whether anything that is known of the record begins with the text, in large or small letters. No index serves
    this: every record is read."""
    each = func.json_each if connection.dialect.name == "sqlite" else func.json_each_text
    own = each(Record.extra).table_valued("key", "value")
    is_in_own = exists().where(cast(own.c.value, String).istartswith(sought, autoescape=True))
    columns = (Record.serial_number, *_REST)
    return or_(*(column.istartswith(sought, autoescape=True) for column in columns), is_in_own)


def _sorts_by_code(connection: Connection) -> bool:
    """Whether the database sorts texts by the codes of their characters. Where it sorts as a language does, what begins
    with the same letters need not stand together."""
    if connection.dialect.name == "sqlite":
        return True
    # As JSON, since PostgreSQL before 15 has no column for the provider.
    asked = text("SELECT to_jsonb(d) FROM pg_database d WHERE datname = current_database()")
    facts: dict[str, Any] = connection.execute(asked).scalar_one()
    provider = facts.get("datlocprovider", "c")
    return provider == "b" or (provider == "c" and str(facts["datcollate"]).lower() in _BY_CODE)


def _read(connection: Connection, condition: ColumnElement[bool], limit: int) -> Findings:
    """Read the records that fulfil the condition, `limit` of them at most, and count the others."""
    listed = (
        select(
            Record.id.label("record"),
            Record.row_number.label("row"),
            Batch.name.label("batch"),
            Batch.environment,
            *(getattr(Record, name) for name in ("serial_number", "device_id", "lot", "status", "reason")),
            *_USER,
            Record.scheduled_at,
            Record.finalized_at,
        )
        .join(Batch, Batch.id == Record.batch_id)
        .where(condition)
        .order_by(Record.batch_id.desc(), Record.row_number)
        .limit(limit)
    )
    found = [Found(**row._mapping) for row in connection.execute(listed)]
    if len(found) < limit:
        return Findings(found, 0)
    count = connection.scalar(select(func.count().cast(Integer)).select_from(Record).where(condition)) or 0
    return Findings(found, count - len(found))
