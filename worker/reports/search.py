"""Searches the records: by the beginning of what is known of a token and its user, by batch, status and reason."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, func, or_, select

from models.batch import Batch
from models.record import Record
from models.refused_row import REFUSED, RefusedRow
from worker.batches.finding import find_batch, is_of_kept_batch
from worker.database.engine import Database
from worker.reports.named_tokens import list_environment_ids, spell_serial_number
from worker.reports.refused_rows import RefusedLine, read_refused
from worker.reports.search_conditions import NAMES, SERIAL, any_begins, begins, id_begins, is_in_range, sorts_by_code


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

    def to_json(self) -> dict[str, Any]:
        finalized_at = self.finalized_at and self.finalized_at.isoformat()
        return asdict(self) | {"scheduled_at": self.scheduled_at.isoformat(), "finalized_at": finalized_at}


@dataclass(frozen=True, slots=True)
class Findings:
    """The records that were found, those of the latest batch first, and how many more there are. `is_by_serial_number`:
    serial numbers alone were searched, since they were enough: the text is one, or more begin with it than may be
    listed. `refused`: rows that were refused and are like that; nothing but their serial numbers is known."""

    found: list[Found]
    more: int
    is_by_serial_number: bool = False
    refused: list[RefusedLine] = field(default_factory=list)

    def name_only_token(self) -> str | None:
        """Name the token that all of these are of, by a record's number, or its serial number if none of its rows
        became a record; None if there are several."""
        tokens = {(each.environment, each.serial_number) for each in self.found}
        tokens |= {(line.environment, line.serial_number or "") for line in self.refused}
        if self.more or len(tokens) != 1:
            return None
        return f"#{self.found[0].record}" if self.found else self.refused[0].serial_number

    def to_json(self) -> dict[str, Any]:
        return {
            "found": [each.to_json() for each in self.found],
            "more": self.more,
            "is_by_serial_number": self.is_by_serial_number,
            "refused": [line.to_json() for line in self.refused],
        }


def search(database: Database, sought: Sought, limit: int) -> Findings:
    """Find records and refused rows, `limit` of them at most. Raises UnknownBatch."""
    with database.reading() as connection:
        findings = Findings([], 0) if sought.status == REFUSED else _search_records(connection, sought, limit)
        if sought.reason is not None or sought.user is not None or sought.status not in (None, REFUSED):
            return findings
        return _add_refused(connection, findings, sought, limit)


def count_others(database: Database, text: str) -> int:
    """Count the serial numbers that begin with the text and are longer."""
    if not SERIAL.fullmatch(text):
        return 0
    longer = select(func.count(Record.serial_number.distinct())).where(
        Record.serial_number.not_in(spell_serial_number(text)), is_of_kept_batch()
    )
    with database.reading() as connection:
        return connection.scalar(longer.where(_serial_begins(connection, text))) or 0


def find_known_beginning(connection: Connection, text: str) -> str:
    """Find the longest beginning of the text with which a serial number begins too; empty if none does."""
    if not SERIAL.fullmatch(text):
        return ""

    def is_unknown(length: int) -> bool:
        known = select(Record.id).where(_serial_begins(connection, text[:length]), is_of_kept_batch())
        return connection.scalar(known.limit(1)) is None

    # What is longer than an unknown beginning is unknown, too.
    return text[: bisect_left(range(1, len(text) + 1), x=True, key=is_unknown)]


def _serial_begins(connection: Connection, text: str) -> ColumnElement[bool]:
    """Whether the serial number begins with the text, as the database finds that most quickly."""
    like = (
        map(is_in_range, spell_serial_number(text))
        if sorts_by_code(connection)
        else [begins(Record.serial_number, text)]
    )
    return and_(Record.environment_id.in_(list_environment_ids(connection)), or_(*like))


def _search_records(connection: Connection, sought: Sought, limit: int) -> Findings:
    """Find records. Raises UnknownBatch."""
    conditions = list(_select_by_columns(connection, sought))
    if sought.text is None:
        return _read(connection, and_(True, *conditions), limit)
    return _search_serial_numbers(connection, sought.text, conditions, limit) or _read(
        connection, and_(any_begins(connection, sought.text), *conditions), limit
    )


def _add_refused(connection: Connection, findings: Findings, sought: Sought, limit: int) -> Findings:
    """Add the refused rows whose serial numbers begin with the text, as far as the list has room. Raises
    UnknownBatch."""
    conditions: list[ColumnElement[bool]] = []
    if sought.batch is not None:
        conditions.append(RefusedRow.batch_id == find_batch(connection, sought.batch, Batch.id).id)
    if sought.text is not None:
        conditions.append(RefusedRow.serial_number.istartswith(sought.text, autoescape=True))
    total = connection.scalar(select(func.count()).select_from(RefusedRow).where(*conditions)) or 0
    refused = list(read_refused(connection, *conditions, limit=limit - len(findings.found))) if total else []
    return replace(findings, refused=refused, more=findings.more + total - len(refused))


def _search_serial_numbers(
    connection: Connection, sought: str, conditions: Sequence[ColumnElement[bool]], limit: int
) -> Findings | None:
    """Find the records whose serial numbers begin with the text, which is quick by their index. None if that is not
    enough: the text is no whole serial number, and there is room in the list for what else begins so."""
    if not SERIAL.fullmatch(sought):
        return None
    known = and_(Record.environment_id.in_(list_environment_ids(connection)), *conditions)
    same = select(Record.id).where(known, Record.serial_number.in_(spell_serial_number(sought))).limit(1)
    is_whole = connection.scalar(same) is not None
    if not is_whole and not sorts_by_code(connection):
        return None
    findings = _read(connection, and_(_serial_begins(connection, sought), *conditions), limit)
    return replace(findings, is_by_serial_number=True) if is_whole or findings.more else None


def _select_by_columns(connection: Connection, sought: Sought) -> Iterator[ColumnElement[bool]]:
    """The conditions but for the text. Raises UnknownBatch."""
    yield is_of_kept_batch()
    if sought.batch is not None:
        yield Record.batch_id == find_batch(connection, sought.batch, Batch.id).id
    if sought.status is not None:
        yield Record.status == sought.status
    if sought.reason is not None:
        yield Record.reason == sought.reason
    if sought.user is not None:
        names = [begins(name, sought.user) for name in NAMES]
        yield or_(*names, *id_begins(sought.user, Record.user_id))


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
