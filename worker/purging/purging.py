"""Purges batches that ended long ago: says which, and does it.

A batch is marked first, with its outcome, in one transaction: from then on nobody is shown a record of it. Its records
go after that, chunk by chunk, and a purge that was interrupted goes on with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, select, update

from models.attempt import AttemptLine
from models.audit import Action
from models.batch import Batch
from models.inventory_job import InventoryJob
from models.notice import Notice
from models.record import Record
from models.refused_row import RefusedRow
from worker import audit
from worker.audit import Actor
from worker.database.engine import LOAD_LOCK, Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.purging.candidates import Candidate, Candidates

# What is told of the work.
REMOVING = "Removing records"
# Records that one transaction removes: they are locked for some hundredths of a second.
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class LeftBatch:
    """A batch of which an interrupted purge has left records."""

    id: int
    name: str
    records: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a purge does: batches that ended long ago, of which those with an obstacle stay, and batches whose purge was
    interrupted."""

    candidates: Sequence[Candidate]
    left: Sequence[LeftBatch]

    @property
    def going(self) -> list[Candidate]:
        """The batches that are purged."""
        return [each for each in self.candidates if each.obstacle is None]

    @property
    def records(self) -> int:
        """How many records go."""
        return sum(each.records for each in self.going) + sum(each.records for each in self.left)


class Purging:
    """Purges batches that ended longer ago than `older_than`. `gives_up`: also those with dead letters that a person
    has not dealt with."""

    def __init__(self, database: Database, actor: Actor, older_than: timedelta, *, gives_up: bool = False) -> None:
        self._database = database
        self._actor = actor
        self._older_than = older_than
        self._candidates = Candidates(database, older_than, gives_up=gives_up)

    def examine(self) -> Plan:
        """Find out what `purge` would do, and change nothing."""
        with self._database.reading() as connection:
            left = [LeftBatch(each.id, each.name, _count_left(connection, each.id)) for each in _find_left(connection)]
            return Plan(list(self._candidates.find(connection)), left)

    def purge(self, plan: Plan, on_progress: OnProgress = tell_nobody) -> Plan:
        """Do what the plan says, but for batches that a person has put to work again meanwhile. Returns what was
        done."""
        removed = 0
        for left in plan.left:
            self._note_continuation(left)
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
        """Write down that a batch is purged, how it ended, and who wanted that; None if it is at work again. Beside no
        load and no replay, which look at earlier records."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            mine = select(Batch.__table__).where(Batch.id == candidate.id, Batch.purged_at.is_(None))
            batch = connection.execute(mine.with_for_update()).one_or_none()
            found = batch and self._candidates.find_again(connection, batch)
            if not found:
                return None
            _remove_all_but_records(connection, found.id)
            values = {"purged_at": self._database.now(), "outcome": found.counted.to_json()}
            connection.execute(update(Batch).where(Batch.id == found.id).values(values))
            counts = {status: number for status, number in found.counted.statuses.items() if number}
            facts: dict[str, Any] = {"records": found.records, "older_than_days": self._older_than.days, **counts}
            facts["ended_at"] = found.ended_at.isoformat(timespec="seconds")
            audit.append(self._database, connection, self._actor, Action.PURGE, found.name, facts)
        return found

    def _note_continuation(self, left: LeftBatch) -> None:
        """Write down that somebody goes on with a purge that was interrupted."""
        with self._database.writing() as connection:
            facts = {"records": left.records, "is_continued": True}
            audit.append(self._database, connection, self._actor, Action.PURGE, left.name, facts)


def _find_left(connection: Connection) -> Sequence[Row[int, str]]:
    """Find the purged batches of which records are left, since a purge was interrupted: id and name."""
    has_record = exists().where(Record.batch_id == Batch.id).correlate(Batch)
    return connection.execute(select(Batch.id, Batch.name).where(Batch.purged_at.is_not(None), has_record)).all()


def _count_left(connection: Connection, batch_id: int) -> int:
    """Count the records that are left of a batch."""
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id)) or 0


def _remove_all_but_records(connection: Connection, batch_id: int) -> None:
    """Remove what a batch keeps beside its records: its refused rows, its jobs in PingOne's inventory, and the notices
    about it."""
    for table in (RefusedRow, InventoryJob, Notice):
        connection.execute(delete(table).where(table.batch_id == batch_id))


def _remove_records(database: Database, batch_id: int) -> Iterator[int]:
    """Remove the records of a purged batch with their attempts. Yields after each transaction how many records went.
    What is committed is gone; called again, it goes on."""
    while removed := _remove_chunk(database, batch_id):
        yield removed


def _remove_chunk(database: Database, batch_id: int) -> int:
    with database.writing() as connection:
        mine = select(Record.id).where(Record.batch_id == batch_id).order_by(Record.row_number).limit(CHUNK)
        ids = connection.scalars(mine.with_for_update()).all()
        if ids:
            connection.execute(delete(AttemptLine).where(AttemptLine.record_id.in_(ids)))
            connection.execute(delete(Record).where(Record.id.in_(ids)))
    return len(ids)
