"""`oathbulk metrics`: tells Prometheus how everything stands, in its own words
(https://prometheus.io/docs/instrumenting/exposition_formats/). It reads the database at each scrape, so no worker has
to open a port.

No label holds a serial number, a user or an id: they are names of batches, environments and licenses, and words of
ours."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, TypeAlias
from wsgiref.simple_server import WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
import typer
from prometheus_client import CollectorRegistry, Metric, generate_latest, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from models.attempt import Outcome
from models.batch import BatchState
from models.record_states import Status
from worker.cli.console import console, error_console
from worker.cli.failures import explain_server_failure
from worker.cli.signals import turning_signals_into_interrupts
from worker.installation.installation import Installation, read_statuses
from worker.observability.logs import configure_logs
from worker.pace.known_pace import KnownPace
from worker.reports.facts import BatchStatus
from worker.reports.metrics import BOUNDS, AttemptGroup, MetricsReader
from worker.reports.stall import Fleet

log = structlog.get_logger()

# The labels of all metrics of a batch.
_BATCH = ("batch", "environment")
# Milliseconds a second.
_MS = 1000
# The cause of a standstill that is too short to be a stall.
NO_CAUSE = "none"
# Of a metric: the values of its labels, and its value.
Sample: TypeAlias = "tuple[tuple[str, ...], float]"


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 9188,
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on; without TLS.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
) -> None:
    """Serve metrics for Prometheus at /metrics, until Ctrl-C; the database is read at each scrape."""
    installation = Installation()
    reader = MetricsReader(installation.database, partial(read_statuses, installation))
    # Without `auto_describe`: otherwise the metrics would be read once more, to learn their names.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(reader))
    if not once:
        configure_logs("WARNING", installation.settings.log_format)
    # A database that cannot be read ends the command here, with its cure.
    text = generate_latest(registry)
    if once:
        console.print(text.decode(), end="", soft_wrap=True)
        return
    try:
        server, thread = serve(bind, port, registry)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {bind}:{port}: {error.strerror}. Give another --port") from error
    host = f"[{bind}]" if ":" in bind else bind
    error_console.print(f"Metrics at http://{host}:{server.server_port}/metrics, until Ctrl-C.")
    with suppress(KeyboardInterrupt), turning_signals_into_interrupts():
        thread.join()


class MetricsCollector(Collector):
    """Reads the database whenever it is asked for the metrics; threads may ask."""

    def __init__(self, reader: MetricsReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Read the database and make the metrics. Raises DBAPIError."""
        with self._lock:
            reading = self._reader.read()
        named = [((batch.name, batch.environment), batch) for batch in reading.statuses]
        yield from _make_counts(named)
        yield from _make_states(named)
        yield from _make_attempts(reading.attempts)
        yield from _make_paces(reading.paces)
        yield from _make_fleet(reading.fleet)
        lost = "Batches whose last notice the webhook did not take."
        yield _gauge("notices_lost", lost, (), [((), reading.lost_notices)])
        yield _gauge("database_read_seconds", "How long reading all this took.", (), [((), reading.took)])
        yield _gauge(
            "record_counts_age_seconds",
            "How long ago the records of batches that are not finished were counted.",
            (),
            [((), reading.counts_age)],
        )


def serve(bind: str, port: int, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    """Serve these metrics on this address, in a thread. Where the database fails, it answers 503, so that Prometheus
    counts the exporter as down. Raises OSError."""
    server, thread = start_http_server(port, bind, registry)
    app: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        except DBAPIError as error:
            why = explain_server_failure(error)
            log.warning("metrics_not_read", why=why)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{why}\n".encode()]

    server.set_app(answer)
    return server, thread


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"oathbulk_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


# Of a batch: the values of _BATCH, and how it stands.
NamedBatch: TypeAlias = "tuple[tuple[str, str], BatchStatus]"


def _make_counts(named: Sequence[NamedBatch]) -> Iterator[Metric]:
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
        "Part of the final records that are dead letters.",
        _BATCH,
        ((name, batch.counts[Status.DEAD_LETTER] / max(batch.final, 1)) for name, batch in named),
    )
    yield _gauge(
        "devices_about_to_expire",
        "Devices that wait for activation for 20 to 24 hours; after 24 PingOne deletes them.",
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
        "How long nothing of a running batch has moved that is due, and why; the cause is none while that is short.",
        (*_BATCH, "cause"),
        (
            ((*name, str(stall.cause) if (stall := batch.stall) else NO_CAUSE), batch.standstill)
            for name, batch in running
        ),
    )
    yield _gauge(
        "oldest_due_age_seconds",
        "How long the record of a running batch has been due that waits for longest; 0 if none is.",
        _BATCH,
        ((name, batch.oldest_due_for) for name, batch in running),
    )


def _make_attempts(groups: Sequence[AttemptGroup]) -> Iterator[Metric]:
    ended = CounterMetricFamily("oathbulk_attempts", "Attempts that ended, by outcome.", labels=(*_BATCH, "outcome"))
    for group in groups:
        ended.add_metric((group.batch, group.environment, group.outcome), group.attempts)
    took = HistogramMetricFamily(
        "oathbulk_attempt_call_seconds",
        "How long PingOne took for the calls of an attempt together, without waits before them.",
        labels=("outcome",),
    )
    bounds = (*(str(bound / _MS) for bound in BOUNDS), "+Inf")
    for outcome in map(str, Outcome):
        same = [group for group in groups if group.outcome == outcome]
        counts = [sum(group.buckets[number] for group in same) for number in range(len(bounds))]
        seconds = sum(group.milliseconds for group in same) / _MS
        took.add_metric((outcome,), list(zip(bounds, counts, strict=True)), seconds)
    yield from (ended, took)


# Of the pace of a license: the metric's name, its HELP, and its value; None where it is not known.
_PACES: tuple[tuple[str, str, Callable[[KnownPace], float | None]], ...] = (
    (
        "requests_per_second",
        "The rate of requests to PingOne that the workers keep to.",
        lambda pace: pace.fixed_rate or pace.rate,
    ),
    (
        "ceiling_requests_per_second",
        "The rate at which PingOne refuses; missing until it refused.",
        lambda pace: pace.ceiling,
    ),
    ("share_ratio", "The part of the ceiling that is ours.", lambda pace: pace.share),
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
    yield _gauge("workers_alive", "Worker processes that were seen lately.", (), [((), len(fleet.alive))])
    yield _gauge(
        "workers_sick",
        "Worker processes that ended lately since something fails in them alone.",
        ("reason",),
        (((reason,), reasons.count(reason)) for reason in sorted(set(reasons))),
    )
    age = fleet.seconds_since_tick
    yield _gauge(
        "last_tick_age_seconds",
        "How long ago a worker did the dispatcher's work; +Inf if none is known to have done it.",
        (),
        [((), float("inf") if age is None else max(age, 0.0))],
    )
