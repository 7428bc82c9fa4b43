"""What `oathbulk metrics` would read, made up, and the metrics that it makes of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.batch import BatchState
from models.reason import PauseReason, Reason
from support.data.statuses import batch
from worker.cli.metrics import MetricsCollector
from worker.fleet import KnownProcess
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.metrics import AttemptTotals, Scrape
from worker.reports.stall import Fleet

NOW = datetime(2026, 5, 4, 13, tzinfo=UTC)
# Values by the name of a sample and its labels, in the order of the labels' names.
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class MadeUp:
    """Stands in for the reader: nothing is read."""

    reading: Scrape

    def read(self) -> Scrape:
        return self.reading


def make_process(name: str, sick: str | None = None, tick: float | None = None) -> KnownProcess:
    return KnownProcess(name, sick is None, NOW, tick, NOW if sick else None, sick, "mend it" if sick else None)


def make_reading() -> Scrape:
    """A reading of which every metric has a sample."""
    running = replace(
        batch(dead_letter=5, active=15, pending=80),
        name="july",
        dead_letters={str(Reason.LOCKED): 5},
        old_devices=2,
        still_for=75.0,
        read_at=NOW,
        next_due_at=NOW - timedelta(seconds=90),
        fleet=Fleet(broker="out of reach"),
    )
    paused = replace(
        batch(str(BatchState.PAUSED), pending=3), name="august", environment="second", reason=PauseReason.CREDENTIALS
    )
    attempts = AttemptTotals(
        Counter({(1, "active"): 15, (None, "retry"): 4}),
        Counter({("active", 1): 14, ("active", 13): 1}),
        Counter(active=91_000),
    )
    hold = Hold(NOW, NOW, "PingOne asked for it", 12.5)
    paces = {"default": KnownPace("license", 40.0, 50.0, share=0.6, hold=hold), "second": KnownPace("other")}
    fleet = Fleet([make_process("a", tick=3.0), make_process("b", sick="network"), make_process("c", tick=8.0)])
    return Scrape([running, paused], attempts, {1: ("july", "default")}, paces, fleet, took=0.02, counts_age=7.0)


def write_metrics(reading: Scrape) -> str:
    """The metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(MadeUp(reading)))  # type: ignore[arg-type]
    return generate_latest(registry).decode()


def parse_metrics(text: str) -> Samples:
    """The samples of such a text."""
    families = text_string_to_metric_families(text)
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def find_values(samples: Samples, name: str, label: str) -> dict[str, float]:
    """The values of a metric by one of its labels."""
    return {dict(labels)[label]: value for (each, labels), value in samples.items() if each == name}
