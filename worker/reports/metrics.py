"""Metrics for Prometheus: batches, the fleet, paces, and how attempts ended.

A scrape must be cheap even if a batch is large. So after records and attempts are counted, the counts are reused for a
hundred times as long as counting took, but at most for a minute.

No label contains a serial number, a user or an id. Labels are names of batches, environments and licenses, and fixed
words."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Select, func, select

from models.attempt import AttemptLine, Outcome
from models.batch import Batch, BatchState
from models.pace import LicensePace
from models.record_states import Status
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.pace.known_pace import KnownPace, read_pace
from worker.reports.facts import LONGEST_REST, REST, BatchStatus
from worker.reports.stall import Fleet

# The labels of all metrics of a batch.
_BATCH = ("batch", "environment")
# Milliseconds in a second.
_MS = 1000
# The label of a standstill that is too short to count as a stall.
NO_CAUSE = "none"
# One sample of a metric: the values of its labels, and its value.
Sample: TypeAlias = "tuple[tuple[str, ...], float]"


# The upper bounds of the histogram's buckets, in milliseconds; one more bucket counts everything above them.
BOUNDS = (50, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 20_000, 60_000)


class AttemptGroup(NamedTuple):
    """The attempts of a batch that ended in the same way."""

    batch: str
    environment: str
    outcome: str
    attempts: int
    # How long PingOne took for all their calls, in total.
    milliseconds: int
    # Attempts whose calls took at most each of BOUNDS; the last item counts all attempts that called PingOne.
    buckets: tuple[int, ...]


class MetricsCollector(Collector):
    """Reads the database for each scrape, and reuses counts that are still fresh. Thread-safe. `read_statuses` reads
    the status of all batches; `clock` counts seconds; a backup touches the file `backup_stamp`."""

    def __init__(
        self,
        database: Database,
        read_statuses: Callable[[], Sequence[BatchStatus]],
        clock: Callable[[], float] = time.monotonic,
        backup_stamp: Path | None = None,
    ) -> None:
        self._database = database
        self._backup_stamp = backup_stamp
        self._read_statuses = read_statuses
        self._clock = clock
        self._lock = threading.Lock()
        self._statuses: Sequence[BatchStatus] = ()
        self._attempts: Sequence[AttemptGroup] = ()
        self._again_at = -math.inf

    def collect(self) -> Iterator[Metric]:
        """Read the database and make the metrics. Raises DBAPIError."""
        with self._lock:
            if self._clock() >= self._again_at:
                self._count()
            with self._database.reading() as connection:
                paces = _read_paces(self._database, connection)
                fleet = Fleet(read_processes(self._database, connection))
                lost_notices = connection.scalar(select(func.count(Batch.notice_error))) or 0
            age = measure_backup_age(self._backup_stamp)
            return make_metrics(self._statuses, self._attempts, paces, fleet, lost_notices, age)

    def _count(self) -> None:
        began = self._clock()
        # A purge deletes the records of a batch in steps: never show a part of them.
        self._statuses = [status for status in reversed(self._read_statuses()) if not status.purged_at]
        with self._database.reading() as connection:
            rows = connection.execute(_ATTEMPTS).all()
        self._attempts = [AttemptGroup(row[0], row[1], row[2], row[3], row[4], row[5:]) for row in rows]
        now = self._clock()
        self._again_at = now + min(REST * (now - began), LONGEST_REST)


def make_metrics(
    statuses: Sequence[BatchStatus],
    attempts: Sequence[AttemptGroup],
    paces: Mapping[str, KnownPace],
    fleet: Fleet,
    lost_notices: int,
    backup_age: float | None,
) -> Iterator[Metric]:
    """Make the metrics from these values. `paces`: by the name of the license, or of its environment if it has none.
    `lost_notices`: batches whose last notice the webhook did not accept. `backup_age`: seconds since the last backup;
    None if no stamp file is configured."""
    named = [((batch.name, batch.environment), batch) for batch in statuses]
    yield from _make_counts(named)
    yield from _make_states(named)
    yield from _make_attempts(attempts)
    yield from _make_paces(paces)
    yield from _make_fleet(fleet)
    yield _gauge(
        "notices_lost", "Number of batches whose last notice the webhook did not accept.", (), [((), lost_notices)]
    )
    if backup_age is not None:
        yield _gauge(
            "backup_age_seconds", "Seconds since the last backup; +Inf if none is known.", (), [((), backup_age)]
        )


def measure_backup_age(stamp: Path | None) -> float | None:
    """Measure the seconds since a backup last touched this file: infinity if the file is missing, None if no file is
    named."""
    try:
        return None if stamp is None else max(time.time() - stamp.stat().st_mtime, 0.0)
    except OSError:
        return math.inf


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"oathbulk_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


# A batch: the values of its _BATCH labels, and its status.
NamedBatch: TypeAlias = "tuple[tuple[str, str], BatchStatus]"


def _make_counts(named: Sequence[NamedBatch]) -> Iterator[Metric]:
    yield _gauge(
        "rows",
        "Rows of a batch: active, to_do, failed or closed.",
        (*_BATCH, "kind"),
        (
            ((*name, kind), number)
            for name, batch in named
            for kind, number in batch.rows_to_json().items()
            if kind != "rows"
        ),
    )
    yield _gauge(
        "records",
        "Records by status.",
        (*_BATCH, "status"),
        (((*name, status), number) for name, batch in named for status, number in batch.counts.items()),
    )
    yield _gauge(
        "dead_letters",
        "Dead letters by reason.",
        (*_BATCH, "reason"),
        (((*name, reason), number) for name, batch in named for reason, number in sorted(batch.dead_letters.items())),
    )
    yield _gauge(
        "dead_letter_ratio",
        "Share of final records that are dead letters.",
        _BATCH,
        ((name, batch.counts[Status.DEAD_LETTER] / max(batch.final, 1)) for name, batch in named),
    )
    yield _gauge(
        "devices_about_to_expire",
        "Devices that have been waiting for activation for 20 to 24 hours; after 24 PingOne deletes them.",
        _BATCH,
        ((name, batch.old_devices) for name, batch in named),
    )


def _make_states(named: Sequence[NamedBatch]) -> Iterator[Metric]:
    running = [(name, batch) for name, batch in named if batch.state == BatchState.RUNNING]
    yield _gauge(
        "batches",
        "Batches by state.",
        ("state",),
        (((state,), sum(batch.state == state for _, batch in named)) for state in (*map(str, BatchState), "finished")),
    )
    yield _gauge(
        "batch_paused",
        "1 for a batch that is paused, with the reason.",
        (*_BATCH, "reason"),
        (((*name, batch.reason or ""), 1) for name, batch in named if batch.state == BatchState.PAUSED),
    )
    yield _gauge(
        "batch_still_seconds",
        'Seconds for which due work of a running batch has not moved, and the cause; the cause is "none" for the '
        "first minute.",
        (*_BATCH, "cause"),
        (
            ((*name, str(stall.cause) if (stall := batch.stall) else NO_CAUSE), batch.standstill)
            for name, batch in running
        ),
    )
    yield _gauge(
        "oldest_due_age_seconds",
        "How long the longest-waiting record of a running batch has been due; 0 if none is due.",
        _BATCH,
        ((name, batch.oldest_due_for) for name, batch in running),
    )


def _make_attempts(groups: Sequence[AttemptGroup]) -> Iterator[Metric]:
    ended = CounterMetricFamily("oathbulk_attempts", "Attempts that ended, by outcome.", labels=(*_BATCH, "outcome"))
    for group in groups:
        ended.add_metric((group.batch, group.environment, group.outcome), group.attempts)
    took = HistogramMetricFamily(
        "oathbulk_attempt_call_seconds",
        "How long PingOne took for all calls of an attempt, without the waits before them.",
        labels=("outcome",),
    )
    bounds = (*(str(bound / _MS) for bound in BOUNDS), "+Inf")
    for outcome in map(str, Outcome):
        same = [group for group in groups if group.outcome == outcome]
        counts = [sum(group.buckets[number] for group in same) for number in range(len(bounds))]
        seconds = sum(group.milliseconds for group in same) / _MS
        took.add_metric((outcome,), list(zip(bounds, counts, strict=True)), seconds)
    yield from (ended, took)


# Metrics of a license's pace: the name, the HELP text, and the function that reads the value; None if it is unknown.
_PACES: tuple[tuple[str, str, Callable[[KnownPace], float | None]], ...] = (
    (
        "requests_per_second",
        "The rate of requests to PingOne that the workers keep to.",
        lambda pace: pace.fixed_rate or pace.rate,
    ),
    (
        "ceiling_requests_per_second",
        "The rate at which PingOne throttles; missing until it has.",
        lambda pace: pace.ceiling,
    ),
    ("share_ratio", "The part of the ceiling that oathbulk uses.", lambda pace: pace.share),
    ("held", "1 while all workers hold, otherwise 0.", lambda pace: pace.hold is not None),
    (
        "hold_left_seconds",
        "How long all workers still hold; 0 while they do not.",
        lambda pace: pace.hold.left if pace.hold else 0,
    ),
)


def _make_paces(paces: Mapping[str, KnownPace]) -> Iterator[Metric]:
    for name, text, read in _PACES:
        values = ((license, read(pace)) for license, pace in paces.items())
        known = (((license,), value) for license, value in values if value is not None)
        yield _gauge(f"pace_{name}", text, ("license",), known)


def _make_fleet(fleet: Fleet) -> Iterator[Metric]:
    reasons = [process.reason or "" for process in fleet.sick]
    yield _gauge("workers_alive", "Worker processes seen lately.", (), [((), len(fleet.alive))])
    yield _gauge(
        "workers_sick",
        "Worker processes that recently shut down because they failed where others did not.",
        ("reason",),
        (((reason,), reasons.count(reason)) for reason in sorted(set(reasons))),
    )
    age = fleet.seconds_since_tick
    yield _gauge(
        "last_tick_age_seconds",
        "Seconds since a worker last did the dispatcher's work; +Inf if none is known to have done it.",
        (),
        [((), float("inf") if age is None else max(age, 0.0))],
    )


def _read_paces(database: Database, connection: Connection) -> dict[str, KnownPace]:
    # A license without a name is stored under the id of its environment. Show the environment's name instead.
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
