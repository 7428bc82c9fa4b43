"""A dispatcher for tests: real, but for the broker and the paces that a test brings."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from worker.batches.upkeep import Upkeep
from worker.clocks import ClockWatch
from worker.config.environment import Environment, Environments
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.dispatch import Broker, Dispatcher
from worker.fleet import Processes
from worker.leases.queue import Queue
from worker.rules.breaker import Thresholds


def make_dispatcher(
    database: Database,
    broker: Broker,
    settings: Settings,
    *,
    environment: Callable[[str], Environment],
    pace: Callable[[Environment], Any],
    upkeep: Upkeep | None = None,
    queue: Queue | None = None,
    clock_watch: ClockWatch | None = None,
) -> Dispatcher:
    """`pace` gives what the dispatcher asks of a pace, `rate` and `read_hold_left()`. Without `upkeep`, batches are
    paused where their environment is another one, and nothing else happens to them at a tick."""
    queue = queue or Queue(database, lease=settings.tuning.lease, over_after=settings.tuning.over_after)
    stopping = SimpleNamespace(stop_process_or_batch=(upkeep or Upkeep(database, Thresholds())).pause)
    return Dispatcher(
        database,
        queue,
        broker,
        settings,
        Environments(environment),
        SimpleNamespace(of=pace),
        stopping,
        upkeep or SimpleNamespace(update_batches=lambda: None),
        SimpleNamespace(synchronize=lambda _: None),
        Processes(database, "test:1"),
        clock_watch or ClockWatch(),
    )
