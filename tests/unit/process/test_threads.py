from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.processes.waiting import wait_until

from worker.combining.combiner import MOST_TOGETHER
from worker.process.threads import Threads, Usage, choose_thread_count, is_lacking, is_short_of_connections

# A second in which hardly a thread was free to wait for a slot, while messages waited.
LACKING = Usage(slots=100, waiting=0.4, backlog=30, processor=0.2)


def test_where_hardly_a_thread_is_free_while_messages_wait_more_are_needed():
    assert is_lacking(32, LACKING)
    assert choose_thread_count(32, 512, LACKING) == 64
    assert choose_thread_count(64, 512, LACKING) == 128
    assert choose_thread_count(1, 512, LACKING) == 2


@pytest.mark.parametrize(
    "busy",
    [replace(LACKING, processor=0.9), replace(LACKING, ready=3.0)],
    ids=["it computes all the time", "others take the processor"],
)
def test_where_the_processor_is_the_limit_there_are_no_more_than_write_together(busy: Usage):
    assert is_lacking(8, busy)
    assert choose_thread_count(8, 512, busy) == 16
    assert choose_thread_count(48, 512, busy) == MOST_TOGETHER
    assert choose_thread_count(48, 50, busy) == 50
    assert not is_lacking(MOST_TOGETHER, busy)


def test_threads_that_wait_for_connections_are_told_from_those_that_wait_for_pingone():
    assert is_short_of_connections(32, replace(LACKING, unconnected=20.0))
    assert not is_short_of_connections(32, replace(LACKING, unconnected=4.0))


def test_no_more_than_the_most():
    assert choose_thread_count(500, 512, LACKING) == 512
    assert choose_thread_count(512, 512, LACKING) == 512


@pytest.mark.parametrize(
    "enough",
    [
        replace(LACKING, waiting=20.0),
        replace(LACKING, backlog=0),
        replace(LACKING, slots=2),
    ],
    ids=["threads wait for slots", "no message waits", "hardly a slot"],
)
def test_otherwise_none_is(enough: Usage):
    assert not is_lacking(32, enough)


@dataclass
class Slots:
    slots_taken: int = 0
    seconds_waited: float = 0.0


def watch(pool: ThreadPoolExecutor, pace: Slots, *, most: int, **others: Callable[..., Any]) -> Threads:
    """Looks at a process that never computes, once a second by its clock."""
    seconds = count()
    return Threads(
        pool,
        lambda: [pace],
        lambda _: most,
        clock=lambda: next(seconds),
        processor=lambda: 0.0,
        run_delay=lambda: 0.0,
        **others,
    )


def test_a_pool_whose_calls_take_long_gets_the_threads_it_needs():
    pace, gate = Slots(), threading.Semaphore(0)
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        # Whatever fails, no thread may wait for ever.
        stack.callback(gate.release, 60)
        # A thread that has finished a call is idle to the executor, whatever waits.
        gate.release(4)
        calls = [pool.submit(gate.acquire) for _ in range(30)]
        # Not the first four: a thread that took one up may be overtaken.
        wait_until(lambda: sum(call.done() for call in calls) == 4, 60, "four calls are done")
        told, grown = [], []
        watched = watch(pool, pace, most=8, on_growth=told.append)
        for _ in range(6):
            pace.slots_taken += 50
            watched.adjust()
            grown.append(len(pool._threads))
        gate.release(26)
        assert all(call.result(60) for call in calls)
    # One look may fall onto the first moment of a batch.
    assert grown == [2, 4, 8, 8, 8, 8]
    assert told == [4, 8]


def test_a_look_at_which_there_were_enough_counts_anew():
    pace, gate = Slots(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(gate.wait, 60) for _ in range(10)]
        watched = watch(pool, pace, most=8)
        for slots in (50, 0, 50):
            pace.slots_taken += slots
            watched.adjust()
        assert len(pool._threads) == 2
        pace.slots_taken += 50
        watched.adjust()
        assert len(pool._threads) == 4
        gate.set()
        assert all(call.result(60) for call in calls)


def test_a_pool_that_may_not_grow_says_once_that_it_is_too_small():
    pace, gate = Slots(), threading.Event()
    with ThreadPoolExecutor(2) as pool, capture_logs() as told:
        calls = [pool.submit(gate.wait, 60) for _ in range(10)]
        watched = watch(pool, pace, most=2)
        for _ in range(4):
            pace.slots_taken += 50
            watched.adjust()
        gate.set()
        assert all(call.result(60) for call in calls)
    assert len(pool._threads) == 2
    assert [line["event"] for line in told] == ["too_few_threads"]


def test_a_pool_that_is_ending_gets_no_more_threads():
    """Its end waits for one thread after the other, and fails where another is put beside them meanwhile."""
    pace, gate = Slots(), threading.Event()
    pool = ThreadPoolExecutor(2)
    with ThreadPoolExecutor(1) as beside, ExitStack() as stack:
        # Whatever fails, no thread may wait for ever.
        stack.callback(gate.set)
        calls = [pool.submit(gate.wait, 60) for _ in range(10)]
        watched = watch(pool, pace, most=8)
        ending = beside.submit(pool.shutdown)
        wait_until(lambda: pool._shutdown, 60, "the pool is ending")

        for _ in range(2):
            pace.slots_taken += 50
            watched.adjust()

        gate.set()
        ending.result(60)
        assert all(call.result(60) for call in calls)
    assert len(pool._threads) == 2


def test_a_pool_whose_threads_wait_for_connections_does_not_grow_until_they_come_quicker():
    pace, gate, waited = Slots(), threading.Event(), [0.0]
    with ThreadPoolExecutor(4) as pool, capture_logs() as told:
        calls = [pool.submit(gate.wait, 60) for _ in range(40)]
        watched = watch(pool, pace, most=8, unconnected=lambda: waited[0])
        grown = []
        for unconnected in (3.0, 3.0, 0.5):
            pace.slots_taken += 50
            waited[0] += unconnected
            watched.adjust()
            grown.append(pool._max_workers)
        gate.set()
        assert all(call.result(60) for call in calls)
    assert grown == [4, 4, 8]
    assert [line["event"] for line in told] == ["too_few_connections", "threads_added"]
