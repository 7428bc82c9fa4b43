"""Finds the tokens that a person names: by a serial number, the id of a device, or a record's number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, func, select

from models.batch import Batch
from models.record import Record
from models.refused_row import RefusedRow
from worker.batches.finding import is_of_kept_batch

# The form of PingOne's ids, in lower case. Nothing else is looked for among them: that reads the whole table.
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A record's number behind its #, since a bare one may begin a serial number: at most what the key has room for.
_NUMBER = re.compile(r"#([0-9]{1,18})", re.ASCII)

# A token: the id of its environment, and its serial number.
Token: TypeAlias = "tuple[str, str]"  # noqa: S105 - no password


def list_environment_ids(connection: Connection) -> list[str]:
    """List the ids of all environments that batches were loaded for. The index of serial numbers begins with them."""
    return list(connection.scalars(select(Batch.environment_id).distinct()))


def spell_serial_number(text: str) -> list[str]:
    """The spellings in which a serial number may be stored that somebody types."""
    return list(dict.fromkeys((text, text.upper(), text.lower())))


def find_tokens(connection: Connection, text: str) -> list[Token]:
    """Find the tokens of this serial number; without one, of this device id, or of the record of this number."""
    environments, spellings = list_environment_ids(connection), spell_serial_number(text)
    has_serial_number = and_(Record.environment_id.in_(environments), Record.serial_number.in_(spellings))
    found = _select_tokens(connection, has_serial_number)
    if found := found + _select_refused_tokens(connection, environments, spellings, found):
        return found
    if _ID.fullmatch(text.lower()):
        return _select_tokens(connection, Record.device_id == text.lower())
    number = _NUMBER.fullmatch(text)
    return _select_tokens(connection, Record.id == int(number[1])) if number else []


def _select_tokens(connection: Connection, condition: ColumnElement[bool]) -> list[Token]:
    """Find the tokens whose records fulfil the condition, those loaded last at the end."""
    tokens = (
        select(Record.environment_id, Record.serial_number)
        .where(condition, is_of_kept_batch())
        .group_by(Record.environment_id, Record.serial_number)
        .order_by(func.max(Record.id))
    )
    return [(row.environment_id, row.serial_number) for row in connection.execute(tokens)]


def _select_refused_tokens(
    connection: Connection, environments: Sequence[str], spellings: Sequence[str], known: Sequence[Token]
) -> list[Token]:
    """Find the tokens with these serial numbers of which nothing but refused rows is there: that are not known."""
    tokens = (
        select(RefusedRow.environment_id, RefusedRow.serial_number)
        .where(RefusedRow.environment_id.in_(environments), RefusedRow.serial_number.in_(spellings))
        .distinct()
    )
    found = [(row.environment_id, row.serial_number) for row in connection.execute(tokens)]
    return [token for token in found if token not in known]
