"""Searches the records: by the beginning of what is known of a token and its user, by batch, status and reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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

# What names a person beside the id of its user.
_NAMES: tuple[InstrumentedAttribute[Any], ...] = (Record.username, Record.email, Record.external_id)
# The beginning of an id of PingOne, which is kept in small letters.
_ID = re.compile(r"[0-9a-f-]{1,36}", re.ASCII)
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
    serial numbers alone were searched, since they were enough: the text is one, or more begin with it than may be
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
        return _search_serial_numbers(connection, sought.text, conditions, limit) or _read(
            connection, and_(_any_begins(connection, sought.text), *conditions), limit
        )


def _search_serial_numbers(
    connection: Connection, sought: str, conditions: Sequence[ColumnElement[bool]], limit: int
) -> Findings | None:
    """Find the records whose serial numbers begin with the text, which is quick by their index. None if that is not
    enough: the text is no whole serial number, and there is room in the list for what else begins so."""
    if not _SERIAL.fullmatch(sought):
        return None
    spellings = spell_serial_number(sought)
    known = and_(Record.environment_id.in_(list_environment_ids(connection)), *conditions)
    same = select(Record.id).where(known, Record.serial_number.in_(spellings)).limit(1)
    is_whole, sorts_by_code = connection.scalar(same) is not None, _sorts_by_code(connection)
    if not is_whole and not sorts_by_code:
        return None
    begins = or_(*map(_is_in_range, spellings)) if sorts_by_code else _begins(Record.serial_number, sought)
    findings = _read(connection, and_(known, begins), limit)
    return replace(findings, is_by_serial_number=True) if is_whole or findings.more else None


def _select_by_columns(connection: Connection, sought: Sought) -> Iterator[ColumnElement[bool]]:
    """The conditions but for the text. Raises UnknownBatch."""
    if sought.batch is not None:
        yield Record.batch_id == find_batch(connection, sought.batch, Batch.id).id
    if sought.status is not None:
        yield Record.status == sought.status
    if sought.reason is not None:
        yield Record.reason == sought.reason
    if sought.user is not None:
        names = [_begins(name, sought.user) for name in _NAMES]
        yield or_(*names, *_id_begins(sought.user, Record.user_id))


def _is_in_range(text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text, as a range that an index serves where texts sort by the codes of
    their characters."""
    return and_(Record.serial_number >= text, Record.serial_number < text + _BEHIND)


def _begins(column: ColumnElement[str] | InstrumentedAttribute[Any], text: str) -> ColumnElement[bool]:
    """Whether the column begins with the text, in large or small letters. No index serves this."""
    return column.istartswith(text, autoescape=True)


def _id_begins(text: str, *columns: InstrumentedAttribute[str]) -> list[ColumnElement[bool]]:
    """For each column of ids, whether it begins with the text. None where no id of PingOne does: each would be compared
    for nothing."""
    small = text.lower()
    return [column.startswith(small, autoescape=True) for column in columns] if _ID.fullmatch(small) else []


def _any_begins(connection: Connection, sought: str) -> ColumnElement[bool]:
    """Whether anything that is known of the record begins with the text. Every record is read for it."""
    each = func.json_each if connection.dialect.name == "sqlite" else func.json_each_text
    own = each(Record.extra).table_valued("key", "value")
    is_value = exists().where(_begins(cast(own.c.value, String), sought))
    # To take the columns apart costs most. It is done where the text stands behind a quotation mark somewhere.
    quoted = '"' + json.dumps(sought)[1:-1]
    is_in_own = and_(cast(Record.extra, String).icontains(quoted, autoescape=True), is_value)
    serial_number = [_begins(Record.serial_number, sought)] if _SERIAL.fullmatch(sought) else []
    plain = [_begins(column, sought) for column in (*_NAMES, Record.lot)]
    return or_(*serial_number, *_id_begins(sought, Record.device_id, Record.user_id), *plain, is_in_own)


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
            *(getattr(Record, name) for name in ("user_id", "username", "email", "external_id")),
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
