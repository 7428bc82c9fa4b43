"""The conditions of a search: what begins with a text, and which of these questions an index serves."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, and_, cast, exists, func, or_, text
from sqlalchemy.orm import InstrumentedAttribute

from models.record import Record

# What names a person beside the id of its user.
NAMES: tuple[InstrumentedAttribute[Any], ...] = (Record.username, Record.email, Record.external_id)
# Characters of a serial number, as PingOne allows them; and one that sorts behind all of them.
SERIAL = re.compile(r"[A-Za-z0-9]{1,50}", re.ASCII)
_BEHIND = "~"
# The beginning of an id of PingOne, which is kept in small letters.
_ID = re.compile(r"[0-9a-f-]{1,36}", re.ASCII)
# Collations of PostgreSQL that sort by the characters' codes, as SQLite does, in small letters.
_BY_CODE = frozenset({"c", "posix", "c.utf8", "c.utf-8"})


def is_in_range(text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text, as a range that an index serves where texts sort by the codes of
    their characters."""
    return and_(Record.serial_number >= text, Record.serial_number < text + _BEHIND)


def begins(column: ColumnElement[str] | InstrumentedAttribute[Any], text: str) -> ColumnElement[bool]:
    """Whether the column begins with the text, in large or small letters. No index serves this."""
    return column.istartswith(text, autoescape=True)


def id_begins(text: str, *columns: InstrumentedAttribute[str]) -> list[ColumnElement[bool]]:
    """For each column of ids, whether it begins with the text. None where no id of PingOne does: each would be compared
    for nothing."""
    small = text.lower()
    return [column.startswith(small, autoescape=True) for column in columns] if _ID.fullmatch(small) else []


def any_begins(connection: Connection, sought: str) -> ColumnElement[bool]:
    """Whether anything that is known of the record begins with the text. Every record is read for it."""
    each = func.json_each if connection.dialect.name == "sqlite" else func.json_each_text
    own = each(Record.extra).table_valued("key", "value")
    is_value = exists().where(begins(cast(own.c.value, String), sought))
    # To take the columns apart costs most. It is done where the text stands behind a quotation mark somewhere.
    quoted = '"' + json.dumps(sought)[1:-1]
    is_in_own = and_(cast(Record.extra, String).icontains(quoted, autoescape=True), is_value)
    serial_number = [begins(Record.serial_number, sought)] if SERIAL.fullmatch(sought) else []
    plain = [begins(column, sought) for column in (*NAMES, Record.lot)]
    return or_(*serial_number, *id_begins(sought, Record.device_id, Record.user_id), *plain, is_in_own)


def sorts_by_code(connection: Connection) -> bool:
    """Whether the database sorts texts by the codes of their characters. Where it sorts as a language does, what begins
    with the same letters need not stand together."""
    if connection.dialect.name == "sqlite":
        return True
    # As JSON, since PostgreSQL before 15 has no column for the provider.
    asked = text("SELECT to_jsonb(d) FROM pg_database d WHERE datname = current_database()")
    facts: dict[str, Any] = connection.execute(asked).scalar_one()
    provider = facts.get("datlocprovider", "c")
    return provider == "b" or (provider == "c" and str(facts["datcollate"]).lower() in _BY_CODE)
