"""Which batches may be purged: those that ended long ago and of which nothing is left to do; and why others stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select, text
from sqlalchemy.orm import aliased

from models.batch import Batch, BatchState
from models.inventory_job import UNFINISHED, InventoryJob
from models.record import Record
from models.record_states import Status
from worker.database.engine import Database
from worker.observability.counting import agree, count_things
from worker.reports.facts import RecordCounts, count_records


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch that ended before the time in question. `obstacle`: why it stays all the same, and what to do; None if it
    goes."""

    id: int
    name: str
    ended_at: datetime
    counted: RecordCounts
    obstacle: str | None = None

    @property
    def records(self) -> int:
        """How many records it has."""
        return sum(self.counted.statuses.values())


class Candidates:
    """Finds the batches that ended longer ago than `older_than`. `gives_up`: dead letters that a person has not dealt
    with go as well."""

    def __init__(self, database: Database, older_than: timedelta, *, gives_up: bool) -> None:
        self._database = database
        self._older_than = older_than
        self._gives_up = gives_up

    def find(self, connection: Connection) -> Iterator[Candidate]:
        """Find them, the earliest batch first, each with what stands in its way."""
        before = self._read_limit(connection)
        loaded = select(Batch.__table__).where(Batch.purged_at.is_(None), Batch.created_at < before).order_by(Batch.id)
        going = set[int]()
        for batch in connection.execute(loaded).all():
            if found := self._examine(connection, batch, before, going):
                yield found
                if found.obstacle is None:
                    going.add(batch.id)

    def find_again(self, connection: Connection, batch: Row[*tuple[Any, ...]]) -> Candidate | None:
        """Count the records of a batch anew; None if it has not ended, or not long ago, any more."""
        return self._count(connection, batch, self._read_limit(connection))

    def _examine(
        self, connection: Connection, batch: Row[*tuple[Any, ...]], before: datetime, going: set[int]
    ) -> Candidate | None:
        found = self._count(connection, batch, before)
        if found is None:
            return None
        obstacle = self._find_obstacle(connection, batch, going)
        return Candidate(found.id, found.name, found.ended_at, found.counted, obstacle)

    def _count(self, connection: Connection, batch: Row[*tuple[Any, ...]], before: datetime) -> Candidate | None:
        counted = count_records(self._database, connection, [batch])[batch.id]
        ended_at = max(filter(None, (batch.created_at, counted.finished_at)))
        if not counted.is_finished(batch) or ended_at >= before:
            return None
        return Candidate(batch.id, batch.name, ended_at, counted)

    def _find_obstacle(self, connection: Connection, batch: Row[*tuple[Any, ...]], going: set[int]) -> str | None:
        """Say why a batch stays that ended long ago; None if nothing speaks for it."""
        open_jobs = select(InventoryJob.id).where(InventoryJob.batch_id == batch.id, text(UNFINISHED)).limit(1)
        if connection.scalar(open_jobs) is not None:
            undo = f"`oathbulk undo {quote(batch.name)} --yes`"
            return f"an import or a revocation of it has not ended: {undo} follows it, and takes away what it made"
        if needing := _find_batch_that_needs(connection, batch.id, going):
            return f"batch {needing}, which stays, has tokens that are not active there and came back in it"
        if batch.state == BatchState.CANCELLED or self._gives_up:
            return None
        if waiting := _count_waiting(connection, batch.id):
            wait, them = agree(waiting, "waits", "wait"), agree(waiting, "it", "them")
            return (
                f"{count_things(waiting, 'dead letter')} {wait} for a person: replay or mend {them}, or "
                f"give {them} up with --with-dead-letters"
            )
        return None

    def _read_limit(self, connection: Connection) -> datetime:
        limit: datetime = connection.execute(select(self._database.now(-self._older_than.total_seconds()))).scalar_one()
        return limit


def _count_waiting(connection: Connection, batch_id: int) -> int:
    """Count the dead letters of a batch whose tokens were not loaded again since."""
    later = aliased(Record, name="later")
    came_back = exists().where(
        later.environment_id == Record.environment_id,
        later.serial_number == Record.serial_number,
        later.id > Record.id,
    )
    waiting = select(func.count()).where(
        Record.batch_id == batch_id, Record.status == Status.DEAD_LETTER, ~came_back.correlate(Record)
    )
    return connection.scalar(waiting) or 0


def _find_batch_that_needs(connection: Connection, batch_id: int, going: set[int]) -> str | None:
    """Find an earlier batch that stays, and whose unfinished tokens came back in this one. While it is there, a replay
    of it looks for these."""
    earlier = aliased(Record, name="earlier")
    needing = (
        select(Batch.name)
        .join(earlier, earlier.batch_id == Batch.id)
        .join(
            Record,
            (Record.environment_id == earlier.environment_id)
            & (Record.serial_number == earlier.serial_number)
            & (Record.id > earlier.id),
        )
        .where(Record.batch_id == batch_id, Batch.id != batch_id, Batch.id.not_in(going), Batch.purged_at.is_(None))
        .where(earlier.status.in_((Status.DEAD_LETTER, Status.CANCELLED)))
    )
    return connection.scalar(needing.limit(1))
