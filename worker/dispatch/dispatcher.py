"""The dispatcher: at each tick it puts due records onto the queue, as many as the window has room for, and rescues
those whose lease ran out. The window is the most records that may be queued or in work at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from sqlalchemy import Connection, select

from worker.batches import hours
from worker.batches.preparation import clock_jumps
from worker.batches.upkeep import Upkeep
from worker.clocks.clock_watch import ClockWatch
from worker.config.settings import Settings
from worker.database.engine import DISPATCH_LOCK, Database
from worker.dispatch.room import Messages, share_room
from worker.dispatch.workload import BatchWork, LicenseWork, Workload
from worker.fleet.processes import Processes
from worker.leases.clock_jumps import RecordTimes
from worker.leases.queue import Queue
from worker.pace.paces import PaceMemory

log = structlog.get_logger()

# Records in the window at least, however slow the pace is.
SMALLEST_WINDOW = 64
# Seconds whose records the window holds: at most what the pace allows in them.
WINDOW_SECONDS = 10.0
# Records in the window at most before anything was settled: enough to begin with.
FIRST_WINDOW = 512
# Where the workers are slower than the pace, the window is so many times what they settled in WINDOW_SECONDS: room to
# grow, but no record waits in the queue for so long that its message seems lost.
ROOM_TO_GROW = 1.5


class Broker(Protocol):
    """Where the dispatcher publishes ids."""

    def count_waiting(self) -> int:
        """Count the messages that wait to be taken up."""
        ...

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        """Publish all of these record ids, or raise an error. `labels`: what people call them; `is_ahead`: before all
        that wait already."""
        ...


class Dispatcher:
    """Does the work of the ticks. Several dispatchers may tick at once: a database lock lets one of them work, and the
    others find nothing to do."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        broker: Broker,
        settings: Settings,
        *,
        workload: Workload,
        upkeep: Upkeep,
        pace_memory: PaceMemory,
        processes: Processes,
        clock_watch: ClockWatch,
        record_times: RecordTimes,
    ) -> None:
        self._database = database
        self._queue = queue
        self._broker = broker
        self._settings = settings
        self._workload = workload
        self._upkeep = upkeep
        self._pace_memory = pace_memory
        self._processes = processes
        self._clock_watch = clock_watch
        self._record_times = record_times
        # Held by the tick that is at work. Without it, ticks that come faster than a database far away answers would
        # take all of its connections.
        self._ticking = threading.Lock()

    def tick(self) -> int:
        """Rescue records, update the batches, then fill the window. Returns how many records were put onto the queue:
        none while another tick of this process is at work."""
        if not self._ticking.acquire(blocking=False):
            return 0
        try:
            return self._tick()
        finally:
            self._ticking.release()

    def _tick(self) -> int:
        with self._database.writing() as connection:
            if not self._database.try_lock(connection, DISPATCH_LOCK):
                return 0
            self._restart_times_after_jump(connection)
            self._processes.note_tick(connection)
            if rescued := self._queue.rescue(connection):
                log.warning("rescued", records=rescued)
            self._queue.sweep_cancelled(connection)
        self._upkeep.update_batches()
        return sum(self._fill_window(work) for work in self._workload.find_unfinished())

    def _restart_times_after_jump(self, connection: Connection) -> None:
        """Count leases and delays anew where the database's clock was set, or where nobody can tell that it was not."""
        last_tick_at = self._processes.last_tick_at(connection)
        now = select(self._database.now())
        if not self._clock_watch.is_steady(lambda: connection.execute(now).scalar_one(), last_tick_at):
            log.warning("clock_set", cure="keep the database server's clock with NTP")
            self._record_times.restart(connection)
            hours.restart_times(self._database, connection)
            clock_jumps.restart_times(self._database, connection)

    def _fill_window(self, work: LicenseWork) -> int:
        """Queue and publish what the window of a license has room for. The commit comes first: a message that gets lost
        costs a queue lease, but no record. Returns how many records."""
        self._pace_memory.synchronize(work.pace)
        if work.pace.read_hold_left() > 0:
            return 0
        depth = self._broker.count_waiting()
        with self._database.writing() as connection:
            if not self._database.try_lock(connection, DISPATCH_LOCK):
                return 0
            # Once more: the clock of this transaction says what is due.
            self._restart_times_after_jump(connection)
            window = self._choose_window(connection, work)
            lease = self._choose_queue_lease(window, work)
            due = self._enqueue(connection, work, window, lease) if depth < window else Messages()
        self._publish(due)
        return due.count

    def _choose_window(self, connection: Connection, work: LicenseWork) -> int:
        """How many records of a license may be queued or in work at once."""
        if self._settings.window is not None:
            return self._settings.window
        by_pace = round(work.pace.rate * WINDOW_SECONDS)
        batch_ids = [due.batch_id for due in work.running]
        settled = self._queue.count_settled_lately(connection, batch_ids, WINDOW_SECONDS)
        return max(SMALLEST_WINDOW, min(by_pace, max(FIRST_WINDOW, round(settled * ROOM_TO_GROW))))

    def _choose_queue_lease(self, window: int, work: LicenseWork) -> float:
        """Seconds of a queue lease: at least twice what a full window needs at this pace, so that a message that still
        waits is not taken for lost."""
        return max(self._settings.queue_lease, 2 * window / work.pace.rate)

    def _enqueue(self, connection: Connection, work: LicenseWork, window: int, lease: float) -> Messages:
        """Queue due records: those of cancelled batches that need a read first, then an equal part of the room for each
        batch that runs."""
        counts = self._queue.count_window(connection)
        room = window - sum(counts[batch_id] for batch_id in work.batch_ids)
        messages = Messages()
        for batch in work.cancelled:
            labels = dict[int, str]()
            reads = self._queue.enqueue_reads(connection, batch.batch_id, max(room, 0), lease, labels)
            messages.add_labels(batch.name, labels)
            messages.add(batch.environment, reads)
            room -= len(reads)

        def enqueue(batch: BatchWork, most: int) -> int:
            labels = dict[int, str]()
            due = self._queue.enqueue(connection, batch.batch_id, most, lease, batch.last_row, labels)
            messages.add_labels(batch.name, labels)
            counts[batch.batch_id] += len(due)
            # A batch with little in the window does not wait behind all of one that has filled it.
            is_ahead = len(work.running) > 1 and 2 * len(work.running) * counts[batch.batch_id] <= window
            messages.add(batch.environment, due, is_ahead=is_ahead)
            return len(due)

        share_room(room, work.running, counts, enqueue)
        return messages

    def _publish(self, due: Messages) -> None:
        """Publish all ids. If that fails, make pending again what was not published, and raise the error."""
        left = due.to_list()
        try:
            while left:
                environment, ids, is_ahead = left[0]
                self._broker.publish(ids, environment, labels=due.labels, is_ahead=is_ahead)
                del left[0]
        except Exception:
            with self._database.changing_many() as connection:
                self._queue.unqueue(connection, [record_id for _, ids, _ in left for record_id in ids])
            raise
