from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from worker.threads import Look, Threads, needed

# A second in which hardly a thread was free to wait for a slot, while messages waited.
LACKING = Look(slots=100, waiting=0.4, backlog=30, processor=0.2)


def test_where_hardly_a_thread_is_free_while_messages_wait_threads_are_added():
    assert needed(32, 512, LACKING) == 48
    assert needed(2, 512, LACKING) == 3


def test_no_more_than_the_most():
    assert needed(500, 512, LACKING) == 512
    assert needed(512, 512, LACKING) == 512


@pytest.mark.parametrize(
    "enough",
    [
        Look(slots=100, waiting=20.0, backlog=30, processor=0.2),
        Look(slots=100, waiting=0.4, backlog=0, processor=0.2),
        Look(slots=3, waiting=0.4, backlog=30, processor=0.2),
        # Another thread would only wait for the processor.
        Look(slots=100, waiting=0.4, backlog=30, processor=0.9),
    ],
    ids=["threads wait for slots", "no message waits", "hardly a slot", "the processor is the limit"],
)
def test_otherwise_there_are_as_many_as_before(enough: Look):
    assert needed(32, 512, enough) == 32


@dataclass
class Slots:
    slots: int = 0
    waited: float = 0.0


def test_a_pool_whose_calls_take_long_gets_the_threads_it_needs():
    pace, clock, gate = Slots(), iter(range(100)), threading.Semaphore(0)
    with ThreadPoolExecutor(2) as pool:
        # A thread that has finished a call is idle to the executor, whatever waits.
        for _ in range(4):
            gate.release()
        calls = [pool.submit(gate.acquire) for _ in range(30)]
        for call in calls[:4]:
            call.result(60)
        watched = Threads(pool, lambda: [pace], 8, clock=lambda: next(clock), processor=lambda: 0.0)
        grown = []
        for _ in range(6):
            pace.slots += 50
            watched.look()
            grown.append(len(pool._threads))
        for _ in range(26):
            gate.release()
        assert all(call.result(60) for call in calls)
    assert grown == [3, 4, 6, 8, 8, 8]
