"""The metrics by name, as Prometheus reads them: https://prometheus.io/docs/instrumenting/exposition_formats/

No label holds a serial number, a user or an id: they are names of batches, environments and licenses, and words of
ours."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from models.attempt import Outcome
from models.batch import BatchState
from models.record_states import Status
from worker.reports.metrics import BOUNDS, AttemptTotals, MetricsReader, Reading
from worker.reports.stall import Fleet

# The labels of all metrics of a batch.
_BATCH = ("batch", "environment")
# Milliseconds a second.
_MS = 1000
# The cause of a standstill that is too short to be a stall.
NO_CAUSE = "none"


class MetricsCollector(Collector):
    """Reads the database whenever it is asked for the metrics."""

    def __init__(self, reader: MetricsReader) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        """Read the database and make the metrics. Raises DBAPIError."""
        reading = self._reader.read()
        yield from _make_records(reading)
        yield from _make_movement(reading)
        yield from _make_attempts(reading)
        yield from _make_paces(reading)
        yield from _make_fleet(reading.fleet)
        yield GaugeMetricFamily("oathbulk_database_read_seconds", "How long reading all this took.", reading.took)
        yield GaugeMetricFamily(
            "oathbulk_record_counts_age_seconds",
            "How long ago the records of batches that are not finished were counted.",
            reading.counts_age,
        )


def _make_records(reading: Reading) -> Iterator[Metric]:
    records = GaugeMetricFamily("oathbulk_records", "Records by status.", labels=(*_BATCH, "status"))
    dead = GaugeMetricFamily("oathbulk_dead_letters", "Dead letters by reason.", labels=(*_BATCH, "reason"))
    ratio = GaugeMetricFamily(
        "oathbulk_dead_letter_ratio", "Part of the final records that are dead letters.", labels=_BATCH
    )
    old = GaugeMetricFamily(
        "oathbulk_devices_about_to_expire",
        "Devices that wait for activation for 20 to 24 hours; after 24 PingOne deletes them.",
        labels=_BATCH,
    )
    for batch in reading.statuses:
        labels = (batch.name, batch.environment)
        for status, count in batch.counts.items():
            records.add_metric((*labels, status), count)
        for reason, count in sorted(batch.dead_letters.items()):
            dead.add_metric((*labels, reason), count)
        ratio.add_metric(labels, batch.counts[Status.DEAD_LETTER] / max(batch.final, 1))
        old.add_metric(labels, batch.old_devices)
    yield from (records, dead, ratio, old)


def _make_movement(reading: Reading) -> Iterator[Metric]:
    states = GaugeMetricFamily("oathbulk_batches", "Batches by state.", labels=("state",))
    for state in (*map(str, BatchState), "finished"):
        states.add_metric((state,), sum(batch.state == state for batch in reading.statuses))
    paused = GaugeMetricFamily(
        "oathbulk_batch_paused", "1 for a batch that is paused, with the reason.", labels=(*_BATCH, "reason")
    )
    still = GaugeMetricFamily(
        "oathbulk_batch_still_seconds",
        "How long nothing of a running batch has moved that is due, and why; the cause is none while that is short.",
        labels=(*_BATCH, "cause"),
    )
    due = GaugeMetricFamily(
        "oathbulk_oldest_due_age_seconds",
        "How long the record of a running batch has been due that waits for longest; 0 if none is.",
        labels=_BATCH,
    )
    for batch in reading.statuses:
        labels = (batch.name, batch.environment)
        if batch.state == BatchState.PAUSED:
            paused.add_metric((*labels, batch.reason or ""), 1)
        if batch.state == BatchState.RUNNING:
            still.add_metric((*labels, str(batch.stall.cause) if batch.stall else NO_CAUSE), batch.standstill)
            due.add_metric(labels, batch.oldest_due_for)
    yield from (states, paused, still, due)


def _make_attempts(reading: Reading) -> Iterator[Metric]:
    ended = CounterMetricFamily("oathbulk_attempts", "Attempts that ended, by outcome.", labels=(*_BATCH, "outcome"))
    totals = reading.attempts
    for (batch_id, outcome), count in sorted(totals.attempts.items(), key=lambda item: (item[0][0] or 0, item[0][1])):
        ended.add_metric((*reading.batch_names.get(batch_id or 0, ("", "")), outcome), count)
    took = HistogramMetricFamily(
        "oathbulk_attempt_call_seconds",
        "How long PingOne took for the calls of an attempt together, without waits before them.",
        labels=("outcome",),
    )
    for outcome in map(str, Outcome):
        took.add_metric((outcome,), _make_buckets(totals, outcome), totals.milliseconds[outcome] / _MS)
    yield from (ended, took)


def _make_buckets(totals: AttemptTotals, outcome: str) -> list[tuple[str, float]]:
    """Make the buckets of Prometheus, each of which counts what is in those below as well."""
    buckets, count = list[tuple[str, float]](), 0
    for number, bound in enumerate((*BOUNDS, None)):
        count += totals.durations[outcome, number]
        buckets.append(("+Inf" if bound is None else str(bound / _MS), count))
    return buckets


def _make_paces(reading: Reading) -> Iterator[Metric]:
    def make(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"oathbulk_pace_{name}", text, labels=("license",))

    rate = make("requests_per_second", "The rate of requests to PingOne that the workers keep to.")
    ceiling = make("ceiling_requests_per_second", "The rate at which PingOne refuses; missing until it refused.")
    share = make("share_ratio", "The part of the ceiling that is ours.")
    held = make("held", "1 while all workers hold, otherwise 0.")
    left = make("hold_left_seconds", "How long all workers still hold; 0 while they do not.")
    for license, pace in reading.paces.items():
        for family, value in ((rate, pace.fixed_rate or pace.rate), (ceiling, pace.ceiling), (share, pace.share)):
            if value is not None:
                family.add_metric((license,), value)
        held.add_metric((license,), pace.hold is not None)
        left.add_metric((license,), pace.hold.left if pace.hold else 0)
    yield from (rate, ceiling, share, held, left)


def _make_fleet(fleet: Fleet) -> Iterator[Metric]:
    yield GaugeMetricFamily("oathbulk_workers_alive", "Worker processes that were seen lately.", len(fleet.alive))
    sick = GaugeMetricFamily(
        "oathbulk_workers_sick",
        "Worker processes that ended lately since something fails in them alone.",
        labels=("reason",),
    )
    for reason in sorted({process.reason or "" for process in fleet.sick}):
        sick.add_metric((reason,), sum(process.reason == reason for process in fleet.sick))
    yield sick
    age = fleet.seconds_since_tick
    yield GaugeMetricFamily(
        "oathbulk_last_tick_age_seconds",
        "How long ago a worker did the dispatcher's work; +Inf if none is known to have done it.",
        float("inf") if age is None else max(age, 0.0),
    )
