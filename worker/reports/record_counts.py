"""How many records each batch has in each status, for the metrics: counted no more often than the database can bear.

A million records take PostgreSQL a third of a second to count, and no index has all that is counted. So a count is used
again for a hundred times as long as it took; and a finished batch, which only a command changes, until a command was
written into the audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, or_, select, text, union_all

from models.audit import AuditLine
from models.reason import Reason
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from models.record_states import FINAL, Status
from worker.database.engine import Database

# A count is used again for so many times as long as it took: counting takes a hundredth of the time at the most.
REST = 100.0
# Seconds for which a count is used again at the most.
LONGEST_REST = 60.0
# Seconds; if counting records took less, devices are counted at the same read.
QUICK = 0.2
# Seconds after which a finished batch is counted again, command or not: an undo changes its records one by one after
# the line of the audit.
FINISHED_FOR = 300.0
# The statuses in which a record is still worked on, or waits for it.
_NOT_FINAL = [str(status) for status in Status if status not in FINAL]
# Hours. PingOne deletes a device that waits longer than the second for its activation; from the first on, it is near.
OLD_AFTER, GONE_AFTER = 20, 24


@dataclass(slots=True)
class BatchCounts:
    """The records of a batch: by status, and its dead letters by reason."""

    statuses: dict[str, int] = field(default_factory=lambda: {str(status): 0 for status in Status})
    dead_letters: dict[str, int] = field(default_factory=dict)
    # Those that wait until their user or their token is found.
    unprepared: int = 0
    # Those whose device waits for its activation, and is about to be deleted by PingOne.
    old_devices: int = 0

    def add(self, group: Row[*tuple[Any, ...]]) -> None:
        """Add the records of one status and reason."""
        self.statuses[group.status] += group.records
        if group.status == Status.DEAD_LETTER:
            self.dead_letters[group.reason or ""] = group.records

    @property
    def final(self) -> int:
        """Records that are not worked on any more."""
        return sum(self.statuses[status] for status in FINAL)


class RecordCounts:
    """The counts of all batches, kept between two reads. For one thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._counts = dict[int, BatchCounts]()
        # Batches whose records were all final when they were counted.
        self._finished = set[int]()
        # The last line of the audit when these were counted, and when all of them were counted last.
        self._last_command: int | None = None
        self._all_counted_at = 0.0
        self._counted_at = 0.0
        self._again_at = 0.0
        # Where counting records took long, devices are counted at the next read, so that no read takes the time of
        # both; the first one does.
        self._owes_devices = False

    @property
    def age(self) -> float:
        """Seconds since batches that are not finished were counted."""
        return self._clock() - self._counted_at

    def read(self, connection: Connection, batches: Sequence[Row[*tuple[Any, ...]]]) -> dict[int, BatchCounts]:
        """Read the counts of these batches, which are all that were not purged, by their ids."""
        now, is_owed, is_first = self._clock(), self._owes_devices, not self._counts
        is_told = self._look_for_command(connection, now)
        if is_told or any(batch.id not in self._counts for batch in batches) or not (is_owed or now < self._again_at):
            self._count(connection, batches)
            self._counted_at, self._owes_devices = self._clock(), True
            self._again_at = now + min(REST * (self._counted_at - now), LONGEST_REST)
        is_quick = self._clock() - now < QUICK
        if self._owes_devices and (is_first or is_owed or is_quick):
            self._count_devices(connection, batches)
            self._owes_devices = False
        return {batch.id: self._counts[batch.id] for batch in batches}

    def _look_for_command(self, connection: Connection, now: float) -> bool:
        """Whether a command was given since the last look, so that even a finished batch has to be counted again; or
        whether that has to be done for another reason."""
        last_command = connection.scalar(select(func.max(AuditLine.id)))
        if last_command == self._last_command and now - self._all_counted_at < FINISHED_FOR:
            return False
        self._finished, self._all_counted_at, self._last_command = set(), now, last_command
        return True

    def _count(self, connection: Connection, batches: Sequence[Row[*tuple[Any, ...]]]) -> None:
        left = [batch.id for batch in batches if batch.id not in self._finished]
        if not left:
            return
        counts = {batch_id: BatchCounts() for batch_id in left}
        for group in connection.execute(_group_records(left)):
            counts[group.batch_id].add(group)
        for batch_id, records in connection.execute(_count_unprepared(left)):
            counts[batch_id].unprepared = records
        for batch_id, known in self._counts.items():
            if batch_id in counts:
                counts[batch_id].old_devices = known.old_devices
        self._counts |= counts
        self._finished |= {
            batch.id for batch in batches if batch.id in counts and counts[batch.id].final == batch.total
        }

    def _count_devices(self, connection: Connection, batches: Sequence[Row[*tuple[Any, ...]]]) -> None:
        """Count the devices that PingOne is about to delete, of batches that were loaded that long ago."""
        now = connection.execute(select(self._database.now())).scalar_one()
        ages = {batch.id: (now - batch.created_at).total_seconds() / 3600 for batch in batches}
        ages = {batch_id: age for batch_id, age in ages.items() if age >= OLD_AFTER}
        for counts in self._counts.values():
            counts.old_devices = 0
        if ages:
            for batch_id, devices in connection.execute(_count_old_devices(self._database, ages)):
                self._counts[batch_id].old_devices = devices


def _group_records(batch_ids: Sequence[int]) -> Select[*tuple[Any, ...]]:
    """Select the counts of these batches' records, a row for each batch, status and reason. Nothing else is asked here,
    so that PostgreSQL goes through a million rows in a third of a second, with several processes."""
    columns = (Record.batch_id, Record.status, Record.reason)
    return select(*columns, func.count().label("records")).where(Record.batch_id.in_(batch_ids)).group_by(*columns)


def _count_unprepared(batch_ids: Sequence[int]) -> Select[int, int]:
    """Select how many records of each batch wait until their user or their token is found, by the indexes of these."""
    lacking = [
        select(Record.batch_id).where(Record.batch_id.in_(batch_ids), text(condition))
        for condition in (LACKS_USER, LACKS_TOKEN)
    ]
    found = union_all(*lacking).subquery()
    return select(found.c.batch_id, func.count()).group_by(found.c.batch_id)


def _count_old_devices(database: Database, ages: Mapping[int, float]) -> Select[int, int]:
    """Select how many devices of each batch wait for their activation since so long ago that PingOne is about to delete
    them. `ages`: how many hours ago each batch was loaded.

    A device that oathbulk made is as old as its pairing; one that the file named is at least as old as the batch."""
    near = [batch_id for batch_id, age in ages.items() if age < GONE_AFTER]
    began = Record.pairing_began_at
    is_made_then = and_(began < database.now(-OLD_AFTER * 3600.0), began >= database.now(-GONE_AFTER * 3600.0))
    is_dead = and_(Record.status == Status.DEAD_LETTER, Record.reason != Reason.DEVICE_NOT_FOUND)
    return (
        select(Record.batch_id, func.count())
        .where(Record.batch_id.in_(ages), Record.device_id != "", or_(Record.status.in_(_NOT_FINAL), is_dead))
        .where(case((Record.is_device_made, is_made_then), else_=Record.batch_id.in_(near)))
        .group_by(Record.batch_id)
    )
