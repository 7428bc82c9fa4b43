"""What the metrics are made of: how batches, fleet and paces stand, and how attempts ended.

A scrape must cost a large batch little. So how the batches stand is read again only after a hundred times as long as
that took, a minute at the most; and of the attempts, whose lines are never changed, each is counted once."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

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
# The last so many ids are read again each time. A line is committed a moment after it took its id, and lines with
# higher ids may be there before it: so many more attempts do not end in that moment.
OVERLAP = 20_000


@dataclass(slots=True)
class AttemptTotals:
    """Attempts since the beginning."""

    # By batch (None in lines of versions before 0004) and outcome.
    attempts: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    # Those that called PingOne, by outcome and number of the bucket, from 0.
    durations: Counter[tuple[str, int]] = field(default_factory=Counter)
    # How long their calls took, by outcome.
    milliseconds: Counter[str] = field(default_factory=Counter)

    def add(self, groups: Iterable[Row[*tuple[Any, ...]]]) -> None:
        """Add attempts that were counted."""
        for group in groups:
            self.attempts[group.batch_id, group.outcome] += group.attempts
            if group.bound is not None:
                self.durations[group.outcome, bisect_left(BOUNDS, group.bound)] += group.attempts
                self.milliseconds[group.outcome] += group.milliseconds

    def copy(self) -> AttemptTotals:
        """Make totals that can be added to without changing these."""
        return AttemptTotals(self.attempts.copy(), self.durations.copy(), self.milliseconds.copy())


class AttemptCounter:
    """The totals of all attempts, kept between two reads. For one thread."""

    def __init__(self) -> None:
        self._totals = AttemptTotals()
        # The id up to which lines are counted in these totals.
        self._counted_to = 0

    def read(self, connection: Connection) -> AttemptTotals:
        """Read the totals up to now."""
        latest = connection.scalar(select(func.max(AttemptLine.id))) or 0
        if latest < self._counted_to:
            # The database was restored from an earlier time.
            self._totals, self._counted_to = AttemptTotals(), 0
        mark = max(latest - OVERLAP, self._counted_to)
        self._totals.add(_group_attempts(connection, self._counted_to, mark))
        self._counted_to = mark
        totals = self._totals.copy()
        totals.add(_group_attempts(connection, mark, None))
        return totals


@dataclass(frozen=True, slots=True)
class Scrape:
    """All that is read at once."""

    statuses: Sequence[BatchStatus]
    attempts: AttemptTotals
    # Names and environments of the batches, by their ids.
    batch_names: Mapping[int, tuple[str, str]]
    # By what a license is called: its name, or the environment's if it has none.
    paces: Mapping[str, KnownPace]
    fleet: Fleet
    # Seconds that reading took, and since it was read how the batches stand.
    took: float
    counts_age: float


class MetricsReader:
    """Reads the metrics, and keeps between two reads what need not be read again. `read_statuses` reads how all
    batches stand; `clock` counts seconds. For one thread."""

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
        self._read_at = 0.0
        self._again_at: float | None = None
        self._attempts = AttemptCounter()

    def read(self) -> Scrape:
        """Read everything. Raises DBAPIError."""
        began = self._clock()
        if self._again_at is None or began >= self._again_at:
            # A purge takes the records of a batch away bit by bit, and nobody is told half of them.
            self._statuses = [status for status in reversed(self._read_statuses()) if not status.purged_at]
            self._read_at = self._clock()
            self._again_at = self._read_at + min(REST * (self._read_at - began), LONGEST_REST)
        with self._database.reading() as connection:
            batches = connection.execute(_BATCHES).all()
            licenses = connection.scalars(select(LicensePace.license).order_by(LicensePace.license)).all()
            known = {license: read_pace(self._database, connection, license) for license in licenses}
            # A license without a name of its own is known by the id of its environment, whose name is taken.
            names = {batch.environment_id: batch.environment for batch in batches}
            attempts = self._attempts.read(connection)
            fleet = Fleet(read_processes(self._database, connection))
        return Scrape(
            statuses=self._statuses,
            attempts=attempts,
            batch_names={batch.id: (batch.name, batch.environment) for batch in batches},
            paces={names.get(license, license): pace for license, pace in known.items()},
            fleet=fleet,
            took=self._clock() - began,
            counts_age=self._clock() - self._read_at,
        )


_BATCHES = select(Batch.id, Batch.name, Batch.environment, Batch.environment_id).order_by(Batch.id)


def _group_attempts(connection: Connection, after: int, up_to: int | None) -> Iterable[Row[*tuple[Any, ...]]]:
    """Count the attempts whose ids lie between these two, a row for each batch, outcome and bucket. `bound`: the upper
    bound of the bucket; None where PingOne was not called."""
    if up_to == after:
        return []
    took = AttemptLine.call_milliseconds
    bound = case(*((took <= bound, bound) for bound in BOUNDS), (took.is_not(None), BOUNDS[-1] + 1)).label("bound")
    columns = (AttemptLine.batch_id, AttemptLine.outcome, bound)
    lines = select(*columns, func.count().label("attempts"), func.sum(took).label("milliseconds"))
    lines = lines.where(AttemptLine.id > after).group_by(AttemptLine.batch_id, AttemptLine.outcome, "bound")
    # Fetched to the end, so that totals are changed by all of it or by nothing.
    return connection.execute(lines if up_to is None else lines.where(AttemptLine.id <= up_to)).all()
