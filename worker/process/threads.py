"""Adds threads to a worker process until it has as many as there are calls under way at once at the fleet's pace.

That number is the pace times the duration of a call, which only PingOne knows. So a process begins with few threads,
and adds some while hardly one of them is free to wait for a slot. Where the processor is what they wait for, it comes
to as many as the combiner takes together: the more of them write at the same time, the less work each write is, for the
process and for the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import structlog

from worker.combining.combiner import MOST_TOGETHER
from worker.process.run_delay import read_run_delay

log = structlog.get_logger()

# Seconds from one look to the next.
LOOK_INTERVAL = 0.5
# This share of the threads should be waiting for a slot, on average.
RESERVE = 0.25
# Slots a second below which RESERVE says nothing, since there is too little work.
ENOUGH = 3.0
# Where more than this share of the threads waits for a connection to the database, on average, more threads would only
# wait there too, and hold slots and leases for longer.
UNCONNECTED = 0.25
# A process that computes for more than this share of the time needs another process beside it, and no more threads than
# write together.
BUSY = 0.7
# The same holds where more threads than this are ready to compute and wait for a processor, on average: other processes
# may leave it less.
CROWDED = 1.0
# How many times as many threads there are after a step.
GROWTH = 2


class Slots(Protocol):
    """What a pace counts of its slots."""

    @property
    def slots_taken(self) -> int:
        """Slots that threads of this process have taken so far."""
        ...

    @property
    def seconds_waited(self) -> float:
        """Seconds that threads have waited for slots so far, those that still wait too."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy the threads were since the last look: slots a second; how many threads waited for one, on average;
    messages that no thread has taken up; processor seconds a second; how many threads waited for a connection to the
    database, and how many for a processor."""

    slots: float
    waiting: float
    backlog: int
    processor: float
    unconnected: float = 0.0
    ready: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether the processor is what the threads wait for, and not PingOne."""
        return self.processor > BUSY or self.ready > CROWDED


def is_lacking(threads: int, usage: Usage) -> bool:
    """Whether there are too few threads for the messages that come."""
    is_short = usage.slots >= ENOUGH and usage.waiting < RESERVE * threads and usage.backlog > 0
    return is_short and (not usage.is_busy or threads < MOST_TOGETHER)


def is_short_of_connections(threads: int, usage: Usage) -> bool:
    """Whether the threads wait for the database rather than for PingOne: more of them would not help then."""
    return usage.unconnected > UNCONNECTED * threads


def choose_thread_count(threads: int, most: int, usage: Usage) -> int:
    """How many threads there should be instead of these, which are too few; at most `most`."""
    enough = MOST_TOGETHER if usage.is_busy else most
    return min(most, enough, threads * GROWTH)


def _add_threads(pool: ThreadPoolExecutor, threads: int) -> bool:
    """Raise the pool's limit and add threads for what waits; False where the pool is ending.

    The executor has no method for that. It takes a thread for idle once for each call that one has finished, also
    while others wait; that is forgotten here, or it would add none. As its own `submit` does, this adds threads under
    the executor's lock only: the end of the pool goes through the set of threads and waits for each, and fails with
    "Set changed size during iteration" where one is added meanwhile."""
    with pool._shutdown_lock:
        if pool._shutdown:
            return False
        pool._max_workers = threads
        while len(pool._threads) < threads and pool._work_queue.qsize():
            while pool._idle_semaphore.acquire(blocking=False):
                pass
            pool._adjust_thread_count()
        return True


class Threads:
    """Watches the pool of a worker process, and ends with it. `most`: what it may come to, by what it began with.
    `unconnected`: seconds that its threads have waited for a connection to the database, all together. `on_growth` is
    called with the number of threads whenever some were added."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        paces: Callable[[], Iterable[Slots]],
        most: Callable[[int], int],
        unconnected: Callable[[], float] = lambda: 0.0,
        on_growth: Callable[[int], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
        run_delay: Callable[[], float] = read_run_delay,
    ) -> None:
        self._pool = pool
        self._paces = paces
        self._most = most(pool._max_workers)
        self._warned = set[str]()
        self._is_lacking = False
        self._unconnected = unconnected
        self._on_growth = on_growth
        self._clock = clock
        self._processor = processor
        self._run_delay = run_delay
        self._former = self._read_sums()

    def watch(self) -> None:
        threading.Thread(target=self._watch, name="threads", daemon=True).start()

    def adjust(self) -> None:
        """Look how busy the threads were since the last look. Where they were too few in two looks one after the other,
        add some, or warn why it cannot: at the first moment of a batch all threads seem to be missing."""
        former, self._former = self._former, self._read_sums()
        *sums, seconds = (after - before for before, after in zip(former, self._former, strict=True))
        slots, waiting, processor, unconnected, ready = (each / seconds for each in sums)
        usage = Usage(slots, waiting, self._pool._work_queue.qsize(), processor, unconnected, ready)
        threads = self._pool._max_workers
        was_lacking, self._is_lacking = self._is_lacking, is_lacking(threads, usage)
        if not (was_lacking and self._is_lacking):
            return
        if is_short_of_connections(threads, usage):
            self._warn_once(
                "too_few_connections", threads, "raise OATHBULK_DATABASE_CONNECTIONS, or bring the database nearer"
            )
        elif (wanted := choose_thread_count(threads, self._most, usage)) > threads:
            if _add_threads(self._pool, wanted):
                self._on_growth(wanted)
                log.info("threads_added", threads=wanted, most=self._most)
        else:
            self._warn_once("too_few_threads", threads, "raise OATHBULK_CONCURRENCY or its _MAX, or add a worker")

    def _warn_once(self, event: str, threads: int, cure: str) -> None:
        """Log a warning, once for each event in the life of a process."""
        if event not in self._warned:
            self._warned.add(event)
            log.warning(event, threads=threads, cure=cure)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_INTERVAL)
            self.adjust()

    def _read_sums(self) -> tuple[float, ...]:
        paces = list(self._paces())
        slots, waited = sum(pace.slots_taken for pace in paces), sum(pace.seconds_waited for pace in paces)
        return slots, waited, self._processor(), self._unconnected(), self._run_delay(), self._clock()
