"""Searches records by the beginning of any value of a token or its user, and by batch, status and reason. Also finds
tokens by serial number, device id or record number, and reads the rows that were refused at loading."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Integer, Row, String, and_, cast, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from models.audit import AuditLine
from models.batch import Batch
from models.change import Change
from models.person import NAMES, PERSON
from models.record import Record, needs_fresh_otps
from models.record_states import Status
from models.refused_row import NOT_LOADED, RefusedRow
from worker.batches.finding import choose_records, find_batch, is_of_kept_batch
from worker.database.engine import Database
from worker.observability.wording import format_moment

# Columns that name a person, besides the user id.
NAME_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = tuple(getattr(Record, name) for name in NAMES)
# The beginning of a serial number, in the characters that PingOne allows; and a character that sorts after all of them.
_SERIAL_START = re.compile(r"[A-Za-z0-9]{1,50}", re.ASCII)
_BEHIND = "~"
# The beginning of a PingOne id; ids are stored in lower case.
_ID = re.compile(r"[0-9a-f-]{1,36}", re.ASCII)
# A whole PingOne id, in lower case. Only such a text is compared with device ids, since that reads the whole table.
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A record's number after a #, since a bare number may be a serial number; at most as many digits as the key can have.
_NUMBER = re.compile(r"#([0-9]{1,18})", re.ASCII)

# A token: the id of its environment, and its serial number.
Token: TypeAlias = "tuple[str, str]"  # noqa: S105 - no password


# A row from the database, with its columns as attributes.
Read = Row[*tuple[Any, ...]]


def row_to_json(read: Read) -> dict[str, Any]:
    """Convert the columns of a row for JSON, with times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in read._mapping.items()}


def refused_to_json(line: Read) -> dict[str, Any]:
    """Convert a refused row to the form in which `oathbulk show --json` prints it."""
    return {
        "batch": line.batch,
        "row": line.row_number,
        "file": line.file,
        "status": Status.CANCELLED if line.is_closed else NOT_LOADED,
        "reason": line.reason,
        "meaning": line.detail,
        "serial_number": line.serial_number,
    }


# Columns of a refused row: its place in the file, its token if that is known, and why it was refused, with the cure.
_REFUSED = (
    *(Batch.name.label("batch"), Batch.file, Batch.columns, Batch.environment),
    *(RefusedRow.environment_id, RefusedRow.row_number),
    *(RefusedRow.serial_number, RefusedRow.reason, RefusedRow.detail, RefusedRow.is_closed),
)


def read_refused(connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None) -> Sequence[Read]:
    """Read the refused rows that fulfill the conditions: the latest batch first, then in the order of its file."""
    listed = select(*_REFUSED).join(Batch, Batch.id == RefusedRow.batch_id).where(*conditions)
    ordered = listed.order_by(RefusedRow.batch_id.desc(), RefusedRow.row_number).limit(limit)
    return connection.execute(ordered).all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """The criteria of a search; None if a criterion does not matter. `text`: the beginning of a serial number, an id, a
    name or any further column. `user`: the beginning of a name or id of the user. `where`: conditions on rows of a
    batch, each written as COLUMN=VALUE. A search with `user` or `where` finds no refused rows, since only their serial
    numbers are kept."""

    text: str | None = None
    batch: str | None = None
    status: str | None = None
    reason: str | None = None
    user: str | None = None
    where: tuple[str, ...] = ()


def name_user(found: Read) -> str:
    """Choose the name of a record's user that people recognize best; without any name, the user's id."""
    return str(next(filter(None, (getattr(found, name) for name in NAMES)), found.user_id))


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The records that were found, the latest batch first, and how many more there are. `is_by_serial_number`: only
    serial numbers were searched, because the text is one, or more of them begin with it than the list has room for.
    `refused`: refused rows that match; of their values, only the serial number is known."""

    found: Sequence[Read]
    more: int
    is_by_serial_number: bool = False
    refused: Sequence[Read] = ()
    # Earlier states of records that a command took away from the person in the search.
    former: Sequence[Read] = ()

    def name_only_token(self) -> str | None:
        """Name the token to which all results belong, by a record's number, or by its serial number if none of its rows
        became a record. None if there are several tokens."""
        tokens = {(each.environment, each.serial_number) for each in self.found}
        tokens |= {(line.environment, line.serial_number or "") for line in self.refused}
        if self.more or len(tokens) != 1:
            return None
        if self.found:
            return f"#{self.found[0].record}"
        ((_, serial_number),) = tokens
        return serial_number or None

    def to_json(self) -> dict[str, Any]:
        return {
            "found": list(map(row_to_json, self.found)),
            "more": self.more,
            "is_by_serial_number": self.is_by_serial_number,
            "refused": list(map(refused_to_json, self.refused)),
            "former": list(map(row_to_json, self.former)),
        }


def search(database: Database, sought: Sought, limit: int) -> SearchResult:
    """Find at most `limit` records and refused rows. Raises UnknownBatch, UnknownColumn."""
    with database.reading() as connection:
        findings = SearchResult([], 0) if sought.status == NOT_LOADED else _search_records(connection, sought, limit)
        if (name := sought.user or sought.text) and not findings.is_by_serial_number:
            findings = replace(findings, former=_read_former(connection, findings.found, name))
        if sought.user is not None or sought.where or sought.status not in (None, NOT_LOADED, Status.CANCELLED):
            return findings
        return _add_refused(connection, findings, sought, limit)


def count_others(database: Database, text: str) -> int:
    """Count the serial numbers that begin with the text but are longer."""
    if not _SERIAL_START.fullmatch(text):
        return 0
    longer = select(func.count(Record.serial_key.distinct())).where(
        Record.serial_key != text.lower(), is_of_kept_batch()
    )
    with database.reading() as connection:
        return connection.scalar(longer.where(_serial_begins(connection, text))) or 0


def _serial_begins(connection: Connection, text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text. An index makes this fast."""
    return and_(Record.environment_id.in_(list_environment_ids(connection)), is_in_range(text))


def _search_records(connection: Connection, sought: Sought, limit: int) -> SearchResult:
    """Find records. Raises UnknownBatch."""
    conditions = list(_select_by_columns(connection, sought))
    if sought.text is None:
        return _read(connection, and_(True, *conditions), limit)
    return _search_serial_numbers(connection, sought.text, conditions, limit) or _read(
        connection, and_(any_begins(connection, sought.text), *conditions), limit
    )


def _had_by(name: str) -> ColumnElement[bool]:
    """Whether a change names a person whose name or id begins with `name` as the former user of its record."""
    names = [begins(getattr(Change, kind), name) for kind in NAMES]
    return or_(*names, *id_begins(name, Change.user_id))


def _was_had_by(name: str) -> ColumnElement[bool]:
    return Record.id.in_(select(Change.record_id).where(_had_by(name)))


def _read_former(connection: Connection, found: Sequence[Read], name: str) -> Sequence[Read]:
    """Read the records that a person whose name or id begins with `name` had, but no longer has, and until when."""
    others = [row for row in found if not any(_begins_so(getattr(row, kind), name) for kind in PERSON)]
    before = (getattr(Change, kind) for kind in (*PERSON, "device_id"))
    # An undo ends it, although the row names the person until the token goes to somebody else.
    had_device = func.max(Change.id).filter(Change.device_id != "")
    last = select(func.coalesce(had_device, func.max(Change.id))).where(
        Change.record_id.in_([row.record for row in others]), _had_by(name)
    )
    former = (
        select(Change.record_id.label("record"), Record.serial_number, AuditLine.at.label("until"), *before)
        .add_columns(AuditLine.action, AuditLine.actor, AuditLine.ticket)
        .join(Record, Record.id == Change.record_id)
        .join(AuditLine, AuditLine.id == Change.audit_id)
        .where(Change.id.in_(last.group_by(Change.record_id)))
    )
    return connection.execute(former.order_by(Change.id.desc())).all() if others else ()


def _begins_so(value: str | None, name: str) -> bool:
    return (value or "").lower().startswith(name.lower())


def _add_refused(connection: Connection, findings: SearchResult, sought: Sought, limit: int) -> SearchResult:
    """Add the refused rows that match the search, as far as the list has room. Raises UnknownBatch."""
    conditions: list[ColumnElement[bool]] = []
    if sought.batch is not None:
        conditions.append(RefusedRow.batch_id == find_batch(connection, sought.batch, Batch.id).id)
    if sought.status is not None:
        conditions.append(RefusedRow.is_closed.is_(sought.status == Status.CANCELLED))
    if sought.reason is not None:
        conditions.append(RefusedRow.reason == sought.reason)
    if sought.text is not None:
        conditions.append(RefusedRow.serial_key.startswith(sought.text.lower(), autoescape=True))
    total = connection.scalar(select(func.count()).select_from(RefusedRow).where(*conditions)) or 0
    refused = read_refused(connection, *conditions, limit=limit - len(findings.found)) if total else ()
    return replace(findings, refused=refused, more=findings.more + total - len(refused))


def _search_serial_numbers(
    connection: Connection, sought: str, conditions: Sequence[ColumnElement[bool]], limit: int
) -> SearchResult | None:
    """Find the records whose serial numbers begin with the text; an index makes this fast. None if other columns must
    be searched too: the text is not a whole serial number, and the list has room for more."""
    if not _SERIAL_START.fullmatch(sought):
        return None
    known = and_(Record.environment_id.in_(list_environment_ids(connection)), *conditions)
    same = select(Record.id).where(known, Record.serial_key == sought.lower()).limit(1)
    is_whole = connection.scalar(same) is not None
    findings = _read(connection, and_(_serial_begins(connection, sought), *conditions), limit)
    return replace(findings, is_by_serial_number=True) if is_whole or findings.more else None


def _select_by_columns(connection: Connection, sought: Sought) -> Iterator[ColumnElement[bool]]:
    """Make the conditions of the search, apart from the text. Raises UnknownBatch, UnknownColumn."""
    yield is_of_kept_batch()
    if sought.batch is not None:
        yield Record.batch_id == find_batch(connection, sought.batch, Batch.id).id
        yield choose_records(connection, sought.batch, sought.where)
    if sought.status is not None:
        yield Record.status == sought.status
    if sought.reason is not None:
        yield Record.reason == sought.reason
    if sought.user is not None:
        names = [begins(name, sought.user) for name in NAME_COLUMNS]
        yield or_(*names, *id_begins(sought.user, Record.user_id), _was_had_by(sought.user))


def _read(connection: Connection, condition: ColumnElement[bool], limit: int) -> SearchResult:
    """Read at most `limit` records that fulfill the condition, and count the others."""
    columns = ("device_id", "lot", "status", "reason", "scheduled_at", "finalized_at")
    listed = (
        select(
            Record.id.label("record"),
            Record.serial_number,
            Batch.name.label("batch"),
            Record.row_number.label("row"),
            Batch.environment,
            *(getattr(Record, name) for name in (*PERSON, *columns)),
            needs_fresh_otps().label("needs_fresh_otps"),
        )
        .join(Batch, Batch.id == Record.batch_id)
        .where(condition)
        .order_by(Record.batch_id.desc(), Record.row_number)
        .limit(limit)
    )
    found = connection.execute(listed).all()
    if len(found) < limit:
        return SearchResult(found, 0)
    count = connection.scalar(select(func.count().cast(Integer)).select_from(Record).where(condition)) or 0
    return SearchResult(found, count - len(found))


def list_environment_ids(connection: Connection) -> list[str]:
    """List the ids of all environments with batches. The index of serial numbers begins with the environment's id."""
    return list(connection.scalars(select(Batch.environment_id).distinct()))


def find_tokens(connection: Connection, text: str) -> list[Token]:
    """Find the tokens with this serial number; if there are none, those with this device id or record number."""
    environments, key = list_environment_ids(connection), text.lower()
    found = _select_tokens(connection, and_(Record.environment_id.in_(environments), Record.serial_key == key))
    # Add tokens that have only refused rows.
    is_token = RefusedRow.environment_id.in_(environments), RefusedRow.serial_key == key
    refused = select(RefusedRow.environment_id).where(*is_token).distinct()
    known = {environment_id for environment_id, _ in found}
    found += [(environment_id, text) for environment_id in connection.scalars(refused) if environment_id not in known]
    if found:
        return found
    if _WHOLE_ID.fullmatch(text.lower()):
        return _select_tokens(connection, Record.device_id == text.lower())
    number = _NUMBER.fullmatch(text)
    return _select_tokens(connection, Record.id == int(number[1])) if number else []


def _select_tokens(connection: Connection, condition: ColumnElement[bool]) -> list[Token]:
    """Find the tokens whose records fulfill the condition, in the order of their loads."""
    tokens = (
        select(Record.environment_id, func.max(Record.serial_number).label("serial_number"))
        .where(condition, is_of_kept_batch())
        .group_by(Record.environment_id, Record.serial_key)
        .order_by(func.max(Record.id))
    )
    return [(row.environment_id, row.serial_number) for row in connection.execute(tokens)]


def is_in_range(text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text, as a range condition that can use an index."""
    return and_(Record.serial_key >= text.lower(), Record.serial_key < text.lower() + _BEHIND)


def begins(column: ColumnElement[str] | InstrumentedAttribute[Any], text: str) -> ColumnElement[bool]:
    """Whether the column begins with the text, ignoring case. This cannot use an index."""
    return column.istartswith(text, autoescape=True)


def id_begins(text: str, *columns: InstrumentedAttribute[str]) -> list[ColumnElement[bool]]:
    """Make a condition for each column of ids: whether it begins with the text. Empty if no PingOne id can begin with
    it, to save the comparisons."""
    small = text.lower()
    return [column.startswith(small, autoescape=True) for column in columns] if _ID.fullmatch(small) else []


def any_begins(connection: Connection, sought: str) -> ColumnElement[bool]:
    """Whether any value of the record begins with the text. This reads every record."""
    each = func.json_each if connection.dialect.name == "sqlite" else func.json_each_text
    own = each(Record.extra).table_valued("key", "value")
    is_value = exists().where(begins(cast(own.c.value, String), sought))
    # Unpacking the further columns is the most expensive part, so do it only if the text follows a quotation mark.
    quoted = '"' + json.dumps(sought)[1:-1]
    is_in_own = and_(cast(Record.extra, String).icontains(quoted, autoescape=True), is_value)
    serial_number = [is_in_range(sought)] if _SERIAL_START.fullmatch(sought) else []
    plain = [begins(column, sought) for column in (*NAME_COLUMNS, Record.lot)]
    return or_(
        *serial_number, *id_begins(sought, Record.device_id, Record.user_id), *plain, is_in_own, _was_had_by(sought)
    )


def describe_refused(line: Read) -> str:
    """Say which row was not loaded and why, with the cure."""
    closed = ". Someone closed it." if line.is_closed else ""
    return f"Row {line.row_number} of {line.batch} was not loaded: {line.detail}{closed}"


def describe_former(line: Read) -> str:
    """Say who had a token until when, and which command ended that."""
    ticket = f", ticket {line.ticket}" if line.ticket else ""
    return (
        f"{line.serial_number} was {name_user(line)}'s until {format_moment(line.until)} UTC: "
        f"{line.action} by {line.actor}{ticket}"
    )


def describe_nothing_found(sought: Sought) -> str:
    """Say that no record matches. If a text or user was given, also say that a search compares beginnings."""
    if sought.text is not None or sought.user is not None:
        return "No record matches. Search for the start of a value."
    of = f" of {sought.batch}" if sought.batch else ""
    having = f" has the reason {sought.reason}" if sought.reason else ""
    match sought.status:
        case None:
            return f"No record{of}{having}." if having else f"There is no record{of}."
        case _ if sought.status == NOT_LOADED and not having:
            return f"Every row{of} was loaded."
        case Status.DEAD_LETTER:
            status = "is a dead letter"
        case _:
            status = f"is {sought.status}"
    return f"No record{of} {status}{' and' + having if having else ''}."
