"""What the metrics are made of: how batches, fleet and paces stand, and how attempts ended.

A scrape must cost a large batch little. So records and attempts are counted again only after a hundred times as long as
counting them took, a minute at the most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from models.attempt import AttemptLine
from models.batch import Batch
from models.pace import LicensePace
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.pace.known_pace import KnownPace, read_pace
from worker.reports.facts import LONGEST_REST, REST, BatchStatus
from worker.reports.stall import Fleet

# The upper bounds of the histogram's buckets, in milliseconds; what took longer is in one more.
BOUNDS = (50, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 20_000, 60_000)


class AttemptGroup(NamedTuple):
    """The attempts of a batch that ended in the same way."""

    batch: str
    environment: str
    outcome: str
    attempts: int
    # How long PingOne took for all of their calls.
    milliseconds: int
    # Those whose calls took no longer than each of BOUNDS, and last all that called PingOne.
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scrape:
    """All that is read at once."""

    statuses: Sequence[BatchStatus]
    attempts: Sequence[AttemptGroup]
    # By what a license is called: its name, or the environment's if it has none.
    paces: Mapping[str, KnownPace]
    fleet: Fleet
    # Batches whose last notice the webhook did not take.
    lost_notices: int
    # Seconds that reading took, and since records and attempts were counted.
    took: float
    counts_age: float


class MetricsReader:
    """Reads the metrics, and keeps between two reads what is not counted again. `read_statuses` reads how all batches
    stand; `clock` counts seconds. For one thread."""

    def __init__(
        self,
        database: Database,
        read_statuses: Callable[[], Sequence[BatchStatus]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._read_statuses = read_statuses
        self._clock = clock
        self._statuses: Sequence[BatchStatus] = ()
        self._attempts: Sequence[AttemptGroup] = ()
        self._counted_at = 0.0
        self._again_at: float | None = None

    def read(self) -> Scrape:
        """Read everything. Raises DBAPIError."""
        began = self._clock()
        if self._again_at is None or began >= self._again_at:
            self._count()
        with self._database.reading() as connection:
            paces = _read_paces(self._database, connection)
            fleet = Fleet(read_processes(self._database, connection))
            lost_notices = connection.scalar(select(func.count(Batch.notice_error))) or 0
        now = self._clock()
        ages = {"took": now - began, "counts_age": now - self._counted_at}
        return Scrape(self._statuses, self._attempts, paces, fleet, lost_notices, **ages)

    def _count(self) -> None:
        began = self._clock()
        # A purge takes the records of a batch away bit by bit: nobody is shown half of them.
        self._statuses = [status for status in reversed(self._read_statuses()) if not status.purged_at]
        with self._database.reading() as connection:
            self._attempts = [_make_group(*row) for row in connection.execute(_ATTEMPTS)]
        self._counted_at = self._clock()
        self._again_at = self._counted_at + min(REST * (self._counted_at - began), LONGEST_REST)


def _make_group(
    batch: str, environment: str, outcome: str, attempts: int, milliseconds: int, *buckets: int
) -> AttemptGroup:
    return AttemptGroup(batch, environment, outcome, attempts, milliseconds, buckets)


def _read_paces(database: Database, connection: Connection) -> dict[str, KnownPace]:
    # A license without a name of its own is known by the id of its environment, whose name is taken.
    ids = select(Batch.environment_id, Batch.environment).distinct()
    names = dict(connection.execute(ids).all())
    licenses = connection.scalars(select(LicensePace.license).order_by(LicensePace.license)).all()
    return {names.get(license, license): read_pace(database, connection, license) for license in licenses}


_TOOK = AttemptLine.call_milliseconds
_ATTEMPTS: Select[*tuple[Any, ...]] = (
    select(
        Batch.name,
        Batch.environment,
        AttemptLine.outcome,
        func.count(),
        func.coalesce(func.sum(_TOOK), 0),
        *(func.count().filter(bound >= _TOOK) for bound in BOUNDS),
        func.count(_TOOK),
    )
    .join(Batch, Batch.id == AttemptLine.batch_id)
    .where(Batch.purged_at.is_(None))
    .group_by(Batch.id, AttemptLine.outcome)
    .order_by(Batch.id, AttemptLine.outcome)
)
