"""Removes stored data about tokens and people: purges batches that ended long ago, and erases a person's names.

A batch is first marked as purged, with its outcome, in one transaction: from then on, its records are not shown. They
are then deleted chunk by chunk; an interrupted purge continues with the rest."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from shlex import quote
from typing import Any
from unicodedata import normalize

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, null, or_, select, text, update
from sqlalchemy.orm import aliased

from models.attempt import AttemptLine
from models.audit import Action
from models.batch import Batch, BatchState
from models.change import Change
from models.inventory_job import UNFINISHED, InventoryJob
from models.person import NAMES
from models.record import Record
from models.record_states import FINAL, Status
from models.refused_row import RefusedRow
from worker import audit
from worker.audit import Actor
from worker.batches.finding import is_of_kept_batch
from worker.database.engine import LOAD_LOCK, Database
from worker.leases.replay import went_again, went_again_in
from worker.observability.progress import OnProgress, tell_nobody
from worker.observability.wording import agree, count_things
from worker.reports.facts import RecordCounts, count_records

# Progress text.
REMOVING = "Removing records"
# Number of records that one transaction removes: they are locked for a few hundredths of a second.
CHUNK = 1000
# Purged batches that still have records because a purge was interrupted, and how many each has.
_LEFT = (
    select(Batch.id, Batch.name, func.count(Record.id))
    .join(Record, Record.batch_id == Batch.id)
    .where(Batch.purged_at.is_not(None))
    .group_by(Batch.id, Batch.name)
    .order_by(Batch.id)
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch that ended before the given time. `obstacle`: why it stays anyway, and what to do; None if it can be
    purged."""

    id: int
    name: str
    ended_at: datetime
    counted: RecordCounts
    obstacle: str | None = None

    @property
    def records(self) -> int:
        """How many records the batch has."""
        return sum(self.counted.statuses.values())


@dataclass(frozen=True, slots=True)
class LeftBatch:
    """A batch with records left by an interrupted purge."""

    id: int
    name: str
    records: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a purge: batches that ended long ago and have no obstacle, and the rest of interrupted purges."""

    candidates: Sequence[Candidate]
    left: Sequence[LeftBatch]

    @property
    def going(self) -> list[Candidate]:
        """The batches to purge."""
        return [each for each in self.candidates if each.obstacle is None]

    @property
    def records(self) -> int:
        """How many records to purge."""
        return sum(each.records for each in self.going) + sum(each.records for each in self.left)


class Purging:
    """Purges batches that ended longer ago than `older_than`. `gives_up`: also purges batches with dead letters that
    nobody has dealt with."""

    def __init__(self, database: Database, actor: Actor, older_than: timedelta, *, gives_up: bool = False) -> None:
        self._database = database
        self._actor = actor
        self._older_than = older_than
        self._gives_up = gives_up

    def examine(self) -> Plan:
        """Find out what `purge` would do, without changing anything."""
        with self._database.reading() as connection:
            left = [LeftBatch(*row) for row in connection.execute(_LEFT)]
            return Plan(list(self._find_candidates(connection)), left)

    def purge(self, plan: Plan, on_progress: OnProgress = tell_nobody) -> Plan:
        """Carry out the plan, except for batches that a person has meanwhile made to run again. Returns what was
        done."""
        removed = 0
        for left in plan.left:
            # Continue the interrupted purges.
            with self._database.writing() as connection:
                facts = {"records": left.records, "is_continued": True}
                audit.append(self._database, connection, self._actor, Action.PURGE, left.name, facts)
            for count in _remove_records(self._database, left.id):
                on_progress(REMOVING, removed := removed + count, plan.records)
        done = list[Candidate]()
        for candidate in plan.going:
            if marked := self._mark(candidate):
                done.append(marked)
                for count in _remove_records(self._database, candidate.id):
                    on_progress(REMOVING, removed := removed + count, plan.records)
        self._database.empty_log()
        return Plan(done, plan.left)

    def _mark(self, candidate: Candidate) -> Candidate | None:
        """Record that a batch is purged, how it ended, and who requested the purge; return None if the batch runs
        again. No load or replay can run meanwhile, since both read earlier records."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            mine = select(Batch.__table__).where(Batch.id == candidate.id, Batch.purged_at.is_(None))
            batch = connection.execute(mine.with_for_update()).one_or_none()
            found = batch and self._count(connection, batch, self._read_limit(connection))
            if not found:
                return None
            # The batch's other rows, besides its records.
            for table in (RefusedRow, InventoryJob):
                connection.execute(delete(table).where(table.batch_id == found.id))
            values = {"purged_at": self._database.now(), "outcome": found.counted.to_json()}
            connection.execute(update(Batch).where(Batch.id == found.id).values(values))
            counts = {status: number for status, number in found.counted.statuses.items() if number}
            facts: dict[str, Any] = {"records": found.records, "older_than_days": self._older_than.days, **counts}
            facts["ended_at"] = found.ended_at.isoformat(timespec="seconds")
            audit.append(self._database, connection, self._actor, Action.PURGE, found.name, facts)
        return found

    def _find_candidates(self, connection: Connection) -> Iterator[Candidate]:
        """Find the batches that ended long ago, the earliest first, each with its obstacle."""
        before = self._read_limit(connection)
        loaded = select(Batch.__table__).where(Batch.purged_at.is_(None), Batch.created_at < before).order_by(Batch.id)
        going = set[int]()
        for batch in connection.execute(loaded).all():
            if found := self._count(connection, batch, before):
                obstacle = self._find_obstacle(connection, batch, going)
                if obstacle is None:
                    going.add(batch.id)
                yield replace(found, obstacle=obstacle)

    def _count(self, connection: Connection, batch: Row[*tuple[Any, ...]], before: datetime) -> Candidate | None:
        """Count the records of a batch; None if it has not ended, or ended too recently."""
        counted = count_records(self._database, connection, [batch])[batch.id]
        ended_at = max(filter(None, (batch.created_at, counted.finished_at)))
        if not counted.is_finished(batch) or ended_at >= before:
            return None
        return Candidate(batch.id, batch.name, ended_at, counted)

    def _find_obstacle(self, connection: Connection, batch: Row[*tuple[Any, ...]], going: set[int]) -> str | None:
        """Explain why a batch that ended long ago stays; None if it may be purged."""
        open_jobs = select(InventoryJob.id).where(InventoryJob.batch_id == batch.id, text(UNFINISHED)).limit(1)
        if connection.scalar(open_jobs) is not None:
            undo = f"`oathbulk undo {quote(batch.name)} --yes`"
            return (
                f"one of its imports or revocations has not ended: {undo} waits for it, and removes what the batch made"
            )
        if needing := _find_batch_that_needs(connection, batch.id, going):
            return f"batch {needing}, which stays, has unfinished tokens that were loaded again in this one"
        if batch.state == BatchState.CANCELLED or self._gives_up:
            return None
        if waiting := _count_waiting(connection, batch.id):
            are, them = agree(waiting, "is", "are"), agree(waiting, "it", "them")
            return (
                f"{count_things(waiting, 'dead letter')} {are} waiting for someone: replay or mend {them}, or close "
                f"{them} with --with-dead-letters"
            )
        return None

    def _read_limit(self, connection: Connection) -> datetime:
        limit: datetime = connection.execute(select(self._database.now(-self._older_than.total_seconds()))).scalar_one()
        return limit


def _count_waiting(connection: Connection, batch_id: int) -> int:
    """Count the dead letters of a batch whose tokens are in no later batch."""
    waiting = select(func.count()).where(
        Record.batch_id == batch_id, Record.status == Status.DEAD_LETTER, ~went_again()
    )
    return connection.scalar(waiting) or 0


def _find_batch_that_needs(connection: Connection, batch_id: int, going: set[int]) -> str | None:
    """Find a batch that stays and whose unfinished tokens were loaded again in this one: a replay of that batch looks
    for this batch's records."""
    first = aliased(Record)
    needing = (
        select(Batch.name)
        .join(first, first.batch_id == Batch.id)
        .where(Batch.id != batch_id, Batch.id.not_in(going), Batch.purged_at.is_(None))
        .where(first.status.in_((Status.DEAD_LETTER, Status.CANCELLED)))
    )
    each = (needing.join(Record, went).where(Record.batch_id == batch_id) for went in went_again_in(Record, first))
    return next(filter(None, (connection.scalar(batch.limit(1)) for batch in each)), None)


def _remove_records(database: Database, batch_id: int) -> Iterator[int]:
    """Remove the records of a purged batch with their attempts. After each transaction, yields how many records it
    removed. If an earlier call was interrupted, this one continues."""
    while removed := _remove_chunk(database, batch_id):
        yield removed


def _remove_chunk(database: Database, batch_id: int) -> int:
    with database.writing() as connection:
        mine = select(Record.id).where(Record.batch_id == batch_id).order_by(Record.row_number).limit(CHUNK)
        ids = connection.scalars(mine.with_for_update()).all()
        if ids:
            for history in (AttemptLine, Change):
                connection.execute(delete(history).where(history.record_id.in_(ids)))
            connection.execute(delete(Record).where(Record.id.in_(ids)))
    return len(ids)


# Columns of a record that may name a person: the names from its file, further columns of the file, and what PingOne
# said.
_ERASED = {name: null() for name in (*NAMES, "extra", "detail")}
# The columns that identify a person, besides PingOne's id.
_NAMES = tuple(getattr(Record, name) for name in NAMES)
# The columns to read from a record.
_COLUMNS = (Record.id, Record.status, Record.serial_number, Batch.name, Record.user_id, *_NAMES)


@dataclass(frozen=True, slots=True)
class Erased:
    """The records that name a person, themselves or in their history. `batches`: for each batch, how many of its
    records lose the names; `in_progress`: serial number and batch of the records in progress, which keep the names."""

    batches: Counter[str] = field(default_factory=Counter)
    in_progress: Sequence[tuple[str, str]] = ()


class Erasure:
    """Erases people's names, one person at a time."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def examine(self, person: str) -> Erased:
        """Find the records that name the person by this user name, email address, external id or PingOne id, ignoring
        case, without changing anything."""
        with self._database.reading() as connection:
            return _sort(_find(connection, person, is_locking=False), _find_former(connection, person))

    def erase(self, person: str) -> Erased:
        """Erase the names of the person from the records that are in a final status, and from the history of records
        that were theirs before."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            rows, former = _find(connection, person, is_locking=True), _find_former(connection, person)
            erased = _sort(rows, former)
            if not erased.batches:
                return erased
            ids = [row.id for row in rows if row.status in FINAL]
            # Without its names, a record that is not active can no longer find its user, and so may not run again.
            otps = case((Record.status == Status.ACTIVE, Record.otps), else_=null())
            connection.execute(update(Record).where(Record.id.in_(ids)).values(_ERASED | {"otps": otps}))
            history = or_(Change.record_id.in_(ids), Change.id.in_([line.id for line in former]))
            connection.execute(update(Change).where(history).values(dict.fromkeys(NAMES, null())))
            facts: dict[str, Any] = {"records": erased.batches.total(), "batches": sorted(erased.batches)}
            audit.append(self._database, connection, self._actor, Action.PURGE_PERSON, None, facts)
        self._database.empty_log()
        return erased


def _fold(name: str) -> str:
    """Write a name in one form, whatever its case, and whether or not its accents are separate characters."""
    return normalize("NFC", normalize("NFC", name).casefold())


def _find(connection: Connection, person: str, *, is_locking: bool) -> list[Row[*tuple[Any, ...]]]:
    """Find the records that name this person."""
    records = select(*_COLUMNS).join(Batch, Batch.id == Record.batch_id).where(is_of_kept_batch())
    records = records.where(_may_name(Record, person)).order_by(Record.id)
    found = connection.execute(records.with_for_update(of=Record) if is_locking else records)
    return [row for row in found if _is_named(row, person)]


def _find_former(connection: Connection, person: str) -> list[Row[*tuple[Any, ...]]]:
    """Find the lines of records' history that name this person, who had the token before."""
    columns = (Change.id, Change.record_id, Change.user_id, *(getattr(Change, name) for name in NAMES), Batch.name)
    lines = select(*columns).join(Record, Record.id == Change.record_id).join(Batch, Batch.id == Record.batch_id)
    found = connection.execute(lines.where(is_of_kept_batch(), _may_name(Change, person)).order_by(Change.id))
    return [line for line in found if _is_named(line, person) and any(getattr(line, name) for name in NAMES)]


def _may_name(table: type[Record | Change], person: str) -> ColumnElement[bool]:
    """SQL condition that is true for every row that names this person, and for a few others."""
    columns = (getattr(table, name) for name in NAMES)
    like = (func.lower(column).like(_make_pattern(person), escape="\\") for column in columns)
    return or_(table.user_id == person.lower(), *like)


def _is_named(row: Row[*tuple[Any, ...]], person: str) -> bool:
    names = (getattr(row, name) for name in NAMES)
    return row.user_id == person.lower() or any(each is not None and _fold(each) == _fold(person) for each in names)


def _make_pattern(name: str) -> str:
    """Make a pattern that matches every spelling of this name, and a few other names. SQLite, and PostgreSQL in some
    locales, can lowercase only English letters, so the pattern accepts anything for all other letters. It does so for
    `ss` too, which is the uppercase of `ß`."""
    # Replaced before `lower`, which turns some other letters, such as the Turkish capital İ, into English ones.
    opened = re.sub(r"[^\x00-\x7f]+", "\0", normalize("NFC", name)).lower()
    escaped = re.sub(r"([\\%_])", r"\\\1", opened)
    return re.sub("\0|ss", "%", escaped)


def _sort(rows: Sequence[Row[*tuple[Any, ...]]], former: Sequence[Row[*tuple[Any, ...]]]) -> Erased:
    known = {row.id for row in rows}
    others = {line.record_id: line.name for line in former if line.record_id not in known}
    return Erased(
        Counter([*(row.name for row in rows if row.status in FINAL), *others.values()]),
        [(row.serial_number, row.name) for row in rows if row.status not in FINAL],
    )
