"""What the metrics are made of: how batches, fleet and paces stand, read from the database in as little time as
possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from models.batch import Batch, BatchState
from models.pace import LicensePace
from models.record import Record
from models.record_indexes import EXPIRING, HALF_DONE, LASTING
from worker.batches.commands import LicenseOf
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.leases.queue import Queue
from worker.pace.known_pace import KnownPace, read_pace
from worker.reports.attempt_durations import AttemptCounter, AttemptTotals
from worker.reports.preparation_pace import measure_unprepared
from worker.reports.record_counts import BatchCounts, RecordCounts
from worker.reports.stall import STILL_AFTER, Fleet, find_stall
from worker.reports.standstill import measure_standstill
from worker.reports.status import name_state

# The cause of a standstill that is too short to be a stall.
NO_CAUSE = "none"
# Records whose OTPs expire: so many of those that expire first are looked at for the one that is due for longest. Their
# index is in the order in which they expire, and not in that in which they became due.
EXPIRING_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class BatchReading:
    """How a batch stands."""

    name: str
    environment: str
    # With "finished", as `status` says it.
    state: str
    # Why it is paused; None unless it is.
    reason: str | None
    counts: BatchCounts
    # Seconds for which nothing has moved, and for which nobody has prepared it; None where that does not apply.
    still_for: float | None = None
    unprepared_for: float | None = None
    # Seconds for which its oldest due record is due; None while the batch does not run.
    oldest_due_for: float | None = None
    # What keeps due work from moving, in one word.
    cause: str = NO_CAUSE


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is read at once."""

    batches: Sequence[BatchReading]
    attempts: AttemptTotals
    # Names and environments of the batches, by their ids.
    batch_names: Mapping[int, tuple[str, str]]
    # By what a license is called: its name, or the environment's if it has none.
    paces: Mapping[str, KnownPace]
    fleet: Fleet
    # Seconds that reading took, and since records were counted.
    took: float
    counts_age: float


class MetricsReader:
    """Reads the metrics, and keeps between two reads what need not be read again. For one thread.

    `find_broker_fault` says why the broker cannot be used, and is asked only while due work stands still."""

    def __init__(
        self, database: Database, license_of: LicenseOf, find_broker_fault: Callable[[], str | None] = lambda: None
    ) -> None:
        self._database = database
        self._license_of = license_of
        self._find_broker_fault = find_broker_fault
        self._queue = Queue(database)
        self._counts = RecordCounts(database)
        self._attempts = AttemptCounter()

    def read(self) -> Reading:
        """Read everything. Raises DBAPIError."""
        began = time.monotonic()
        with self._database.reading() as connection:
            rows = connection.execute(select(Batch.__table__).order_by(Batch.id)).all()
            # A purge takes the records of a batch away bit by bit, and nobody is told half of them.
            kept = [row for row in rows if row.purged_at is None]
            counts = self._counts.read(connection, kept)
            batches = self._read_batches(connection, kept, counts)
            attempts = self._attempts.read(connection)
            known = [read_pace(self._database, connection, license) for license in connection.scalars(_LICENSES).all()]
            fleet = Fleet(read_processes(self._database, connection))
        return Reading(
            batches=self._explain(kept, batches, {pace.license: pace for pace in known}, fleet),
            attempts=attempts,
            batch_names={row.id: (row.name, row.environment) for row in rows},
            paces={_name_license(rows, pace.license): pace for pace in known},
            fleet=fleet,
            took=time.monotonic() - began,
            counts_age=self._counts.age,
        )

    def _read_batches(
        self, connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]], counts: Mapping[int, BatchCounts]
    ) -> list[BatchReading]:
        windows = self._queue.count_window(connection)
        now = connection.execute(select(self._database.now())).scalar_one()
        return [self._read_batch(connection, row, counts[row.id], windows[row.id], now) for row in rows]

    def _read_batch(
        self, connection: Connection, row: Row[*tuple[Any, ...]], counts: BatchCounts, in_window: int, now: datetime
    ) -> BatchReading:
        state = name_state(row, counts.statuses)
        batch = BatchReading(row.name, row.environment, state, row.reason, counts)
        if state != BatchState.RUNNING:
            return batch
        due_at = _find_next_due(connection, row.id)
        return replace(
            batch,
            still_for=measure_standstill(self._database, connection, row, in_window=in_window, next_due_at=due_at),
            unprepared_for=measure_unprepared(row, now) if counts.unprepared else None,
            oldest_due_for=max((now - due_at).total_seconds(), 0.0) if due_at else 0.0,
        )

    def _explain(
        self,
        rows: Sequence[Row[*tuple[Any, ...]]],
        batches: Sequence[BatchReading],
        paces: Mapping[str, KnownPace],
        fleet: Fleet,
    ) -> list[BatchReading]:
        """Say of each batch that stands still what keeps its work from moving."""
        if any((batch.still_for or 0.0) >= STILL_AFTER for batch in batches):
            fleet = replace(fleet, broker=self._find_broker_fault())
        explained = []
        for row, batch in zip(rows, batches, strict=True):
            pace = paces.get(self._license_of(row.environment, row.environment_id))
            held = replace(fleet, hold=str(pace.hold) if pace and pace.hold else None)
            stall = find_stall(held, batch.still_for, batch.unprepared_for)
            explained.append(replace(batch, cause=str(stall.cause)) if stall else batch)
        return explained


_LICENSES = select(LicensePace.license).order_by(LicensePace.license)


def _find_next_due(connection: Connection, batch_id: int) -> datetime | None:
    """Find when the first of the batch's records that wait was or will be due, by the indexes of what is due."""
    of_batch = Record.batch_id == batch_id
    first = [
        select(func.min(Record.scheduled_at)).where(of_batch, text(condition)) for condition in (HALF_DONE, LASTING)
    ]
    expiring = select(Record.scheduled_at).where(of_batch, text(EXPIRING)).order_by(Record.otp_expires_at)
    first.append(select(func.min(expiring.limit(EXPIRING_LOOKED_AT).subquery().c.scheduled_at)))
    return min(filter(None, (connection.scalar(query) for query in first)), default=None)


def _name_license(rows: Sequence[Row[*tuple[Any, ...]]], license: str) -> str:
    """Name a license: where it has no name of its own it is known by the id of its environment, whose name is taken."""
    return next((row.environment for row in reversed(rows) if row.environment_id == license), license)
