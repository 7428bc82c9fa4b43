"""How many records each batch has in each status, for the metrics: counted no more often than the database can bear.

A million records take PostgreSQL a third of a second to count, and no index has all that is counted. So a count is used
again for a hundred times as long as it took; and a finished batch, which only a command changes, until a command was
written into the audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select, text

from models.audit import AuditLine
from models.batch import Batch
from models.reason import Reason
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from models.record_states import FINAL, Status
from worker.database.engine import Database

# A count is used again for so many times as long as it took: counting takes a hundredth of the time at the most.
REST = 100.0
# Seconds for which a count is used again at the most.
LONGEST_REST = 60.0
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
        self.unprepared += group.unprepared
        self.old_devices += group.old_devices

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
        self._count_again_at = 0.0

    @property
    def age(self) -> float:
        """Seconds since batches that are not finished were counted."""
        return self._clock() - self._counted_at

    def read(self, connection: Connection, batches: Sequence[Row[*tuple[Any, ...]]]) -> dict[int, BatchCounts]:
        """Read the counts of these batches, which are all that there are, by their ids."""
        now, last_command = self._clock(), connection.scalar(select(func.max(AuditLine.id)))
        if last_command != self._last_command or now - self._all_counted_at >= FINISHED_FOR:
            self._finished, self._all_counted_at, self._count_again_at = set(), now, now
        self._last_command = last_command
        is_new = any(batch.id not in self._counts for batch in batches)
        if is_new or now >= self._count_again_at:
            self._count(connection, batches)
            took = self._clock() - now
            self._counted_at, self._count_again_at = now + took, now + min(REST * took, LONGEST_REST)
        return {batch.id: self._counts[batch.id] for batch in batches}

    def _count(self, connection: Connection, batches: Sequence[Row[*tuple[Any, ...]]]) -> None:
        left = [batch.id for batch in batches if batch.id not in self._finished]
        if not left:
            return
        counts = {batch_id: BatchCounts() for batch_id in left}
        for group in connection.execute(_group_records(self._database, left)):
            counts[group.batch_id].add(group)
        self._counts |= counts
        self._finished |= {
            batch.id for batch in batches if batch.id in counts and counts[batch.id].final == batch.total
        }


def _group_records(database: Database, batch_ids: Sequence[int]) -> Select[*tuple[Any, ...]]:
    """Select the counts of these batches' records, a row for each batch, status and reason."""
    return (
        select(
            Record.batch_id,
            Record.status,
            Record.reason,
            func.count().label("records"),
            func.count().filter(or_(text(LACKS_USER), text(LACKS_TOKEN))).label("unprepared"),
            func.count().filter(_has_old_device(database)).label("old_devices"),
        )
        .join(Batch, Batch.id == Record.batch_id)
        .where(Record.batch_id.in_(batch_ids))
        .group_by(Record.batch_id, Record.status, Record.reason)
    )


def _has_old_device(database: Database) -> ColumnElement[bool]:
    """Whether the record's device waits for its activation since so long ago that PingOne is about to delete it.

    A device that oathbulk made is as old as its pairing; one that the file named is at least as old as the batch."""
    is_known_since = case((Record.is_device_made, Record.pairing_began_at), else_=Batch.created_at)
    is_dead = and_(Record.status == Status.DEAD_LETTER, Record.reason != Reason.DEVICE_NOT_FOUND)
    return and_(
        Record.device_id != "",
        or_(Record.status.in_(_NOT_FINAL), is_dead),
        is_known_since < database.now(-OLD_AFTER * 3600.0),
        is_known_since >= database.now(-GONE_AFTER * 3600.0),
    )
