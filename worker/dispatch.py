"""The dispatcher: at each tick it puts due records onto the queue, as many as the window has room for, and rescues
records whose lease expired. The window is the maximum number of records that may be queued or in progress at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu.transport.redis import Channel
from sqlalchemy import Connection, Row, Select, and_, or_, select

from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker.batches import hours, preparation
from worker.batches.long_list import find_first
from worker.batches.upkeep import Consequences, Upkeep
from worker.clocks import ClockWatch
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError, Settings
from worker.database.engine import DISPATCH_LOCK, Database
from worker.fleet import Processes
from worker.leases.moves import LAST_START
from worker.leases.queue import BATCHES_IN_WINDOW, Queue, forget_messages, has_pending
from worker.pace.license_paces import PaceMemory, Paces
from worker.pace.slots import Pace
from worker.rules import breaker
from worker.tenants import select_resync, tell_resync

log = structlog.get_logger()

# Minimum number of records in the window, however slow the pace is.
SMALLEST_WINDOW = 64
# The window holds at most the records that the pace allows in this many seconds.
WINDOW_SECONDS = 10.0
# Records that the window may hold however few were settled lately: enough to start with.
FIRST_WINDOW = 512
# If the workers are slower than the pace, the window is this many times what they settled in WINDOW_SECONDS. This
# leaves room to grow, but no record waits on the queue so long that its message seems lost.
ROOM_TO_GROW = 1.5


# Batches that may have work for a tick, the oldest first: those with records in the window, and those that are not
# paused and have pending records.
_UNFINISHED = (
    select(
        Batch.id,
        Batch.environment,
        Batch.environment_id,
        Batch.state,
        Batch.canary,
        Batch.trial,
        Batch.outages,
        select_resync(Batch.environment_id).label("resync"),
    )
    .where(
        or_(
            Batch.id.in_(BATCHES_IN_WINDOW),
            and_(Batch.state != BatchState.PAUSED, has_pending()),
        )
    )
    .order_by(Batch.id)
)


@dataclass(frozen=True, slots=True)
class BatchWork:
    """A batch with pending records, and how many of them may run. `first`: how many of its first records may run,
    during a canary or a trial. `most`: how many may run at once, while an outage is probed, or until it is known
    whether the environment requires `oathResync` with OTP 1."""

    batch_id: int
    environment: str
    first: int | None = None
    most: int | None = None


@dataclass(slots=True)
class LicenseWork:
    """The batches of one license that have work; they share its pace."""

    pace: Pace
    # Ids of all batches that have records pending, queued or in progress.
    batch_ids: set[int] = field(default_factory=set)
    # The running ones of these batches, the oldest first.
    running: list[BatchWork] = field(default_factory=list)
    # The cancelled ones of these batches, which may need reads, the oldest first.
    cancelled: list[BatchWork] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Messages:
    """Record ids of one environment that are published together. `is_ahead`: workers take them before the messages that
    are already waiting."""

    environment: str
    ids: Sequence[int]
    is_ahead: bool = False

    def split(self, first: Collection[int]) -> Iterator[Messages]:
        """Separate the `first` records, to publish them ahead."""
        yield replace(self, ids=[record_id for record_id in self.ids if record_id in first], is_ahead=True)
        yield replace(self, ids=[record_id for record_id in self.ids if record_id not in first])


class Broker(Protocol):
    """Where the dispatcher publishes ids."""

    def is_new(self) -> bool:
        """Whether this is the first request since the broker lost its data. If so, earlier messages are lost."""
        ...

    def count_waiting(self) -> int:
        """Count the messages that no worker has taken yet."""
        ...

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        """Publish all of these record ids, or raise an error. `labels`: how people refer to the records. `is_ahead`:
        workers take them before all waiting messages."""
        ...


class Dispatcher:
    """Does the work of a tick. Several dispatchers may tick at once: a database lock lets one of them work, and the
    others do nothing. `only_batch`: the id of the only batch to work on; None: all batches."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        broker: Broker,
        settings: Settings,
        environments: Environments,
        paces: Paces,
        consequences: Consequences,
        upkeep: Upkeep,
        pace_memory: PaceMemory,
        processes: Processes,
        clock_watch: ClockWatch,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._broker = broker
        self._settings = settings
        self._environments = environments
        self._paces = paces
        self._consequences = consequences
        self._upkeep = upkeep
        self._pace_memory = pace_memory
        self._processes = processes
        self._clock_watch = clock_watch
        self._look = select(
            database.locking(DISPATCH_LOCK).label("is_locked"),
            database.now().label("now"),
            processes.last_tick_at.label("last_tick_at"),
        )
        self._look_around = self._look.add_columns(
            queue.needs_tending.label("needs_tending"),
            processes.is_tick_due.label("is_tick_due"),
            upkeep.is_due.label("is_upkeep_due"),
        )
        ends_soon = Batch.closes_at <= database.now(LAST_START)
        self._batches = _UNFINISHED.add_columns(ends_soon.label("ends_soon"))
        if only_batch is not None:
            self._batches = self._batches.where(Batch.id == only_batch)
        # Held during a tick. Without it, ticks would use up all connections of a slow database if they came faster than
        # it answers.
        self._ticking = threading.Lock()

    def tick(self) -> int:
        """Rescue records, update the batches, then fill the window. Returns how many records were put onto the queue: 0
        while another tick of this process is running."""
        if not self._ticking.acquire(blocking=False):
            return 0
        try:
            return self._tick()
        finally:
            self._ticking.release()

    def _tick(self) -> int:
        with self._database.writing() as connection:
            if (found := self._lock(connection, self._look_around)) is None:
                return 0
            if found.is_tick_due:
                self._processes.note_tick(connection)
            if found.needs_tending:
                if rescued := self._queue.rescue(connection):
                    log.warning("rescued", records=rescued)
                self._queue.sweep_cancelled(connection)
        if found.is_upkeep_due:
            self._upkeep.update_batches()
        if self._broker.is_new():
            # The next tick queues the records of lost messages again. If a worker has already fetched such a message,
            # the second one has no effect.
            forget_messages(self._database)
        return sum(self._fill_window(work) for work in self._find_unfinished())

    def _find_unfinished(self) -> list[LicenseWork]:
        """Find every license with work left. Includes batches whose last records are all queued or in progress, since
        they take room in the license's window. Leaves out batches whose environment is not configured as it was
        at load."""
        with self._database.reading() as connection:
            batches = connection.execute(self._batches).all()
        licenses: dict[str, LicenseWork] = {}
        for batch in batches:
            environment = self._find_environment(batch.id, batch.environment, batch.environment_id)
            if environment is None:
                continue
            work = licenses.setdefault(environment.license, LicenseWork(self._paces.of(environment)))
            work.batch_ids.add(batch.id)
            most = breaker.PROBES if batch.outages else _choose_most(environment, batch.resync)
            due = BatchWork(batch.id, environment.name, find_first(batch), most)
            if batch.state == BatchState.RUNNING and not batch.ends_soon:
                work.running.append(due)
            elif batch.state == BatchState.CANCELLED:
                work.cancelled.append(due)
        return list(licenses.values())

    def _find_environment(self, batch_id: int, name: str, environment_id: str) -> Environment | None:
        """Find the environment that the batch was loaded for. None if it is no longer configured that way; the batch or
        this process has then been stopped."""
        try:
            environment = self._environments.get(name)
        except ConfigError as error:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT, str(error))
            return None
        if environment.environment_id != environment_id:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT)
            return None
        return environment

    def _lock(self, connection: Connection, look: Select[Any]) -> Row[Any] | None:
        """Take the dispatcher's lock until the transaction ends, and return what `look` found at the same time; None if
        another transaction has the lock. Restarts leases and delays if the database's clock was set, or if no process
        could rule that out."""
        asked_at = self._clock_watch.read()
        found = connection.execute(look).one()
        if not found.is_locked:
            return None
        if not self._clock_watch.is_steady(found.now, asked_at, found.last_tick_at):
            log.warning("clock_set", cure="keep the database server's clock right with NTP")
            self._queue.restart_times(connection, self._settings.tuning.queue_lease)
            hours.restart_times(self._database, connection)
            preparation.restart_times(self._database, connection)
            # Find what is due by the corrected times.
            found = connection.execute(look).one()
        return found

    def _fill_window(self, work: LicenseWork) -> int:
        """Queue and publish as many records of a license as its window has room for, and return how many. Commits
        before it publishes: a lost message costs the wait for a queue lease, but no record."""
        self._pace_memory.synchronize(work.pace)
        if work.pace.read_hold_left() > 0:
            return 0
        depth = self._broker.count_waiting()
        with self._database.writing() as connection:
            # Look again: this transaction's clock says what is due.
            if self._lock(connection, self._look) is None:
                return 0
            window = self._choose_window(connection, work)
            lease = self._choose_queue_lease(window, work)
            due = self._enqueue(connection, work, window, lease) if depth < window else []
            ids = [record_id for messages in due for record_id in messages.ids]
            labels, first = self._queue.read_labels(connection, ids)
        self._publish([part for messages in due for part in messages.split(first)], labels)
        return len(ids)

    def _choose_window(self, connection: Connection, work: LicenseWork) -> int:
        """Choose how many records of a license may be queued or in progress at once."""
        if self._settings.tuning.window is not None:
            return self._settings.tuning.window
        by_pace = round(work.pace.rate * WINDOW_SECONDS)
        if by_pace <= FIRST_WINDOW:
            return max(SMALLEST_WINDOW, by_pace)
        batch_ids = [due.batch_id for due in work.running]
        settled = self._queue.count_settled_lately(connection, batch_ids, WINDOW_SECONDS)
        return min(by_pace, max(FIRST_WINDOW, round(settled * ROOM_TO_GROW)))

    def _choose_queue_lease(self, window: int, work: LicenseWork) -> float:
        """Choose the seconds of a queue lease: at least twice what a full window needs at this pace, so that a waiting
        message does not count as lost."""
        return max(self._settings.tuning.queue_lease, 2 * window / work.pace.rate)

    def _enqueue(self, connection: Connection, work: LicenseWork, window: int, lease: float) -> list[Messages]:
        """Queue due records: first those of cancelled batches that need a read, then an equal part of the room for each
        running batch."""
        counts = self._queue.count_window(connection)
        room = window - sum(counts[batch_id] for batch_id in work.batch_ids)
        due = list[Messages]()
        for batch in work.cancelled:
            reads = self._queue.enqueue_reads(connection, batch.batch_id, max(room, 0), lease)
            due.append(Messages(batch.environment, reads))
            room -= len(reads)

        def enqueue(batch: BatchWork, most: int) -> int:
            ids = self._queue.enqueue(connection, batch.batch_id, most, lease, batch.first)
            counts[batch.batch_id] += len(ids)
            # A batch with few records in the window does not wait behind a batch that has filled it.
            is_ahead = len(work.running) > 1 and 2 * len(work.running) * counts[batch.batch_id] <= window
            due.append(Messages(batch.environment, ids, is_ahead))
            return len(ids)

        share_room(room, work.running, counts, enqueue)
        return due

    def _publish(self, due: list[Messages], labels: Mapping[int, str]) -> None:
        """Publish all ids. If that fails, make the unpublished records pending again, and raise the error."""
        unpublished = deque(messages for messages in due if messages.ids)
        try:
            while unpublished:
                messages = unpublished[0]
                self._broker.publish(messages.ids, messages.environment, labels=labels, is_ahead=messages.is_ahead)
                unpublished.popleft()
        except Exception:
            with self._database.changing_many() as connection:
                self._queue.unqueue(connection, [record_id for messages in unpublished for record_id in messages.ids])
            raise


def _choose_most(environment: Environment, resync: dict[str, Any] | None) -> int | None:
    """Choose how many records of a batch may run at once while oathbulk is still learning about its environment."""
    return tell_resync(resync).most_at_once if environment.resync_on_first_call is None else None


def share_room(
    room: int, batches: Sequence[BatchWork], counts: Mapping[int, int], enqueue: Callable[[BatchWork, int], int]
) -> None:
    """Let each batch enqueue an equal part of the room, then share out the room that some batches do not use. The batch
    with the fewest records in the window comes first. `counts`: records in the window by batch. `enqueue` queues up to
    the given number of records of a batch, adds them to `counts`, and returns how many it queued."""
    sharing = sorted(batches, key=lambda batch: counts.get(batch.batch_id, 0))
    while sharing and room > 0:
        used_their_part = []
        equal, rest = divmod(room, len(sharing))
        for place, batch in enumerate(sharing):
            # The remainder of the division goes to the first batches.
            part = equal + (place < rest)
            if batch.most is not None:
                part = min(part, batch.most - counts.get(batch.batch_id, 0))
            taken = enqueue(batch, part) if part > 0 else 0
            room -= taken
            if part and taken == part:
                used_their_part.append(batch)
        sharing = used_their_part


# Messages sent to the broker in one piece. A thousand would block the other threads of this process while they are
# written, and all waiting calls would then go out at once.
MESSAGES_TOGETHER = 64

# Priorities of messages. Celery's consumers on Redis take the lower number first.
AHEAD = 0
USUAL = 3


class CeleryBroker:
    """Publishes ids as messages for the task with this name, on the queue with this alias. Raises errors of kombu and
    redis."""

    def __init__(self, app: Celery, task: str, queue: str) -> None:
        self._app = app
        self._task = task
        self._queue = queue

    def is_new(self) -> bool:
        """Leave a mark in Redis, which is lost together with the messages. Returns whether the mark was missing."""
        with self._app.connection_or_acquire() as connection:
            return bool(connection.default_channel.client.set(f"{self._find_name()}:kept", 1, nx=True))

    def count_waiting(self) -> int:
        """Count the messages in the queue. kombu keeps a list for each priority; the list for priority 0 has the
        queue's own name."""
        queue = self._find_name()
        lists = (queue, f"{queue}{Channel.sep}{USUAL}")
        with self._app.connection_or_acquire() as connection:
            return sum(int(connection.default_channel.client.llen(name)) for name in lists)

    def _find_name(self) -> str:
        """Find the queue's name in Redis."""
        return str(self._app.amqp.queues[self._queue].name)

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        """Publish a message for each id. With `is_ahead`, workers take these before all messages without it. Flower
        shows a record by its label, or by its id if it has none."""
        with self._app.producer_or_acquire() as producer, producer.batch(MESSAGES_TOGETHER):
            for record_id in ids:
                self._app.send_task(
                    self._task,
                    (record_id, environment),
                    producer=producer,
                    queue=self._queue,
                    priority=AHEAD if is_ahead else USUAL,
                    argsrepr=labels.get(record_id, f"record {record_id}"),
                    kwargsrepr="{}",
                    ignore_result=True,
                    # Switch off work that Celery would do for each message: declaring the queue, which Redis does not
                    # need; retrying, which the next tick does; and noting what this task has sent.
                    declare=(),
                    retry=False,
                    add_to_parent=False,
                )
