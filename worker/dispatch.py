"""The story of the queue: each tick, what is due goes onto it, up to the window; what was left lying is rescued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, and_, bindparam, or_, select

from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker import breaker
from worker.config import ConfigError, Environment, Settings
from worker.database import DISPATCH_LOCK, Database
from worker.leases.moves import LAST_START, has_pending
from worker.leases.queue import Queue

log = structlog.get_logger()

# Batches that may have work for a tick, the oldest first.
_UNFINISHED = (
    select(Batch.id, Batch.environment, Batch.environment_id, Batch.state, Batch.canary_row, Batch.outages)
    .where(
        or_(
            Batch.id.in_(bindparam("in_window", expanding=True)),
            and_(Batch.state != BatchState.PAUSED, has_pending()),
        )
    )
    .order_by(Batch.id)
)

# Records that may wait in the queue or be in work at once: what the pace allows in ten seconds.
SMALLEST_WINDOW = 64
WINDOW_SECONDS = 10.0
# Where the workers are slower than the pace, the window follows them, with room to grow: a record must not wait in
# the queue for so long that its message seems lost. Before anything was settled, this is enough to begin with.
FIRST_WINDOW = 512
ROOM_TO_GROW = 1.5


class Pacing(Protocol):
    """What the dispatcher asks of a pace."""

    @property
    def rate(self) -> float: ...

    def held_for(self) -> float: ...


class Broker(Protocol):
    """Where the ids go."""

    def depth(self) -> int:
        """Messages that wait."""
        ...

    def publish(self, ids: Sequence[int], environment: str) -> None:
        """All of them, or an error."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """A batch with pending records, and how much of it may go: rows up to its canary's last; a few while probing."""

    batch_id: int
    environment: str
    canary_row: int | None = None
    is_probing: bool = False


@dataclass(slots=True)
class License:
    """The batches that share one pace, since their environments do."""

    pace: Pacing
    # All that have records pending, queued or in work.
    batch_ids: set[int] = field(default_factory=set)
    # Of these, the oldest first.
    running: list[Due] = field(default_factory=list)
    cancelled: list[Due] = field(default_factory=list)


class Dispatcher:
    """Ticks. Several may tick at once: a database lock lets one of them work, and the others find nothing to do."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        broker: Broker,
        settings: Settings,
        *,
        environment: Callable[[str], Environment],
        pace: Callable[[Environment], Pacing],
        pause: Callable[[int, PauseReason, str | None], bool],
        tend: Callable[[], None] = lambda: None,
        keep: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._broker = broker
        self._settings = settings
        self._environment = environment
        self._pace = pace
        self._pause = pause
        self._tend = tend
        # Told each pace once a tick: what was found of it outlives Redis, and what a person set reaches it.
        self._keep = keep
        is_closing = Batch.closes_at <= database.now(LAST_START)
        self._unfinished = _UNFINISHED.add_columns(is_closing.label("is_closing"))

    def tick(self) -> int:
        """Rescue, tend, then fill the window. How many records were put onto the queue."""
        with self._database.writing() as connection:
            if not self._database.try_lock(connection, DISPATCH_LOCK):
                return 0
            if rescued := self._queue.rescue(connection):
                log.warning("rescued", records=rescued)
            self._queue.sweep_cancelled(connection)
        self._tend()
        return sum(self._fill(license_) for license_ in self._licenses())

    def _licenses(self) -> list[License]:
        """Every license with work left, whose environment is configured as it was at load. A batch of which all that
        is left is in the queue or in work counts too: it fills its license's window."""
        with self._database.reading() as connection:
            in_window = list(self._queue.in_window(connection))
            batches = connection.execute(self._unfinished, {"in_window": in_window}).all()
        licenses: dict[str, License] = {}
        for batch in batches:
            environment = self._bound_environment(batch.id, batch.environment, batch.environment_id)
            if environment is None:
                continue
            license_ = licenses.setdefault(environment.license, License(self._pace(environment)))
            license_.batch_ids.add(batch.id)
            due = Due(batch.id, environment.name, batch.canary_row, batch.outages > 0)
            if batch.state == BatchState.RUNNING and not batch.is_closing:
                license_.running.append(due)
            elif batch.state == BatchState.CANCELLED:
                license_.cancelled.append(due)
        return list(licenses.values())

    def _bound_environment(self, batch_id: int, name: str, environment_id: str) -> Environment | None:
        """The environment that the batch was loaded for; without it, the batch pauses."""
        try:
            environment = self._environment(name)
        except ConfigError as error:
            self._pause(batch_id, PauseReason.ENVIRONMENT, str(error))
            return None
        if environment.environment_id != environment_id:
            self._pause(batch_id, PauseReason.ENVIRONMENT, None)
            return None
        return environment

    def _fill(self, license_: License) -> int:
        """Commit first, then publish: a message that never comes costs a queue lease, a record never."""
        self._keep(license_.pace)
        if license_.pace.held_for() > 0:
            return 0
        depth = self._broker.depth()
        with self._database.writing() as connection:
            if not self._database.try_lock(connection, DISPATCH_LOCK):
                return 0
            window = self._window(connection, license_)
            lease = self._queue_lease(window, license_)
            due = self._enqueue(connection, license_, window, lease) if depth < window else {}
        self._publish(due)
        return sum(map(len, due.values()))

    def _window(self, connection: Connection, license_: License) -> int:
        if self._settings.window is not None:
            return self._settings.window
        by_pace = round(license_.pace.rate * WINDOW_SECONDS)
        batch_ids = [due.batch_id for due in license_.running]
        settled = self._queue.settled_lately(connection, batch_ids, WINDOW_SECONDS)
        return max(SMALLEST_WINDOW, min(by_pace, max(FIRST_WINDOW, round(settled * ROOM_TO_GROW))))

    def _queue_lease(self, window: int, license_: License) -> float:
        """Seconds: twice what a full window needs at a slow pace, so that a message that still waits is not taken for
        lost."""
        return max(self._settings.queue_lease, 2 * window / license_.pace.rate)

    def _enqueue(self, connection: Connection, license_: License, window: int, lease: float) -> dict[str, list[int]]:
        """Record ids by environment name."""
        in_window = self._queue.in_window(connection)
        room = window - sum(in_window[batch_id] for batch_id in license_.batch_ids)
        ids: dict[str, list[int]] = {}
        for batch in license_.cancelled:
            reads = self._queue.enqueue_reads(connection, batch.batch_id, max(room, 0), lease)
            ids.setdefault(batch.environment, []).extend(reads)
            room -= len(reads)
        for batch in license_.running:
            mine = min(room, breaker.PROBES - in_window[batch.batch_id]) if batch.is_probing else room
            due = self._queue.enqueue(connection, batch.batch_id, max(mine, 0), lease, last_row=batch.canary_row)
            ids.setdefault(batch.environment, []).extend(due)
            room -= len(due)
        return ids

    def _publish(self, due: dict[str, list[int]]) -> None:
        """Everything, or what is left is pending again."""
        left = dict(due)
        try:
            for environment, ids in due.items():
                if ids:
                    self._broker.publish(ids, environment)
                del left[environment]
        except Exception:
            with self._database.changing_many() as connection:
                self._queue.unqueue(connection, list(chain.from_iterable(left.values())))
            raise
