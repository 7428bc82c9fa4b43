"""Slots that the threads of a process reserve together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import redis
from support.processes.waiting import wait_until

from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.search import restart_counting
from worker.pace.slots import Pace, Slot

# Seconds between two slots, so many that a test ends before the second.
INTERVAL = 100.0
PATIENCE = 20.0
MICROSECONDS = 1_000_000


class Crowd:
    """Threads of one process that ask for slots while another's request to Redis is under way; nobody sleeps until a
    slot."""

    def __init__(self, client: redis.Redis) -> None:
        self.pace = Pace(client, "made-up-license", 1 / INTERVAL, furthest=1e6, sleep=lambda _: None)
        self.pace.change(lambda search, _: search)
        self._pool = ThreadPoolExecutor(16)
        self._gate, self._is_under_way = threading.Event(), threading.Event()
        reservations = self.pace._reservations
        self._combiner = reservations._combiner
        # How many slots each request to Redis was for.
        self.requests = list[int]()
        ask = reservations._ask

        def asking(furthest: Any) -> Any:
            if furthest:
                self.requests.append(len(furthest))
                self._is_under_way.set()
                assert self._gate.wait(PATIENCE)
            return ask(furthest)

        reservations._ask = asking  # type: ignore[method-assign]

    def ask(self, count: int, take: Callable[[], Slot] | None = None) -> list[Future[Slot]]:
        """Ask in so many threads. Only the first one's request has begun when this returns."""
        futures = list[Future[Slot]]()
        for _ in range(count):
            is_first, expected = not self._combiner._is_led, len(self._combiner._waiting) + 1
            futures.append(self._pool.submit(take or self.pace.wait))
            if is_first:
                assert self._is_under_way.wait(PATIENCE)
            else:
                wait_until(partial(self._has_waiting, expected), PATIENCE, "it waits")
        return futures

    def _has_waiting(self, count: int) -> bool:
        return len(self._combiner._waiting) == count

    def let_go(self) -> None:
        self._gate.set()

    def close(self) -> None:
        self.let_go()
        self._pool.shutdown()


@pytest.fixture
def crowd(client: redis.Redis) -> Iterator[Crowd]:
    crowd = Crowd(client)
    yield crowd
    crowd.close()


def test_threads_that_ask_at_the_same_time_get_slots_an_interval_apart_with_one_request(crowd: Crowd) -> None:
    asking = crowd.ask(6)
    crowd.let_go()
    slots = sorted(future.result(PATIENCE).at for future in asking)
    assert crowd.requests == [1, 5]
    assert [round((slot - slots[0]) / MICROSECONDS / INTERVAL) for slot in slots] == [0, 1, 2, 3, 4, 5]
    # The first two lie no closer, since the second request came later.
    assert {later - earlier for earlier, later in pairwise(slots[1:])} == {INTERVAL * MICROSECONDS}
    assert crowd.pace.read().slots == 6


def test_who_would_wait_too_long_gets_none_and_leaves_no_gap(crowd: Crowd) -> None:
    first = crowd.ask(1)
    patient = crowd.ask(1)
    impatient = crowd.ask(1, lambda: crowd.pace._reservations.reserve(INTERVAL / 2)[0])
    late = crowd.ask(1)
    crowd.let_go()
    with pytest.raises(SlotTooFar):
        impatient[0].result(PATIENCE)
    slots = [future.result(PATIENCE).at for future in (*first, *patient, *late)]
    assert [round((slot - slots[0]) / MICROSECONDS / INTERVAL) for slot in slots] == [0, 1, 2]
    assert crowd.pace.read().slots == 3


def test_where_redis_was_wiped_all_of_them_get_slots_of_a_new_state(crowd: Crowd, client: redis.Redis) -> None:
    asking = crowd.ask(4)
    client.flushall()
    crowd.let_go()
    assert len({future.result(PATIENCE).at for future in asking}) == 4


def test_where_redis_is_out_of_reach_all_of_them_hear_of_it(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise redis.ConnectionError("gone")

    asking = crowd.ask(4)
    monkeypatch.setattr(crowd.pace._reservations._holds, "reserve", refuse)
    crowd.let_go()
    assert [type(future.exception(PATIENCE)) for future in asking] == [PaceOutOfReach] * 4


def test_one_of_the_threads_that_asked_together_reviews_the_rate(
    crowd: Crowd, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews = list[None]()
    monkeypatch.setattr(crowd.pace._reservations._rate, "review", lambda: reviews.append(None))
    # There are enough answers from the beginning.
    client.hset("oathbulk:pace-3:made-up-license", "look_from", 0)
    asking = crowd.ask(4)
    crowd.let_go()
    for future in asking:
        future.result(PATIENCE)
    # One of the request that was alone, one of that of the other three.
    assert len(reviews) == len(crowd.requests) == 2


def test_each_answer_is_told_once_and_none_of_a_former_rate(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(client, "made-up-license", 1000.0, sleep=lambda _: None)
    slots = [pace.wait() for _ in range(3)]
    told = list[tuple[int, int]]()
    reserve = pace._holds.reserve

    def telling(furthest: Any, answers: int, last: int) -> Any:
        told.append((answers, last))
        return reserve(furthest, answers, last)

    monkeypatch.setattr(pace._holds, "reserve", telling)
    for number in (0, 2, 1):
        pace.report_answer(slots[number])
    pace._reservations.report_answers()
    pace._reservations.report_answers()
    pace.report_answer(slots[0])
    pace.change(lambda search, reading: restart_counting(search, reading.now + 60))
    pace._reservations.report_answers()
    pace.report_answer(slots[2])
    pace._reservations.report_answers()
    assert told == [(3, slots[2].at), (0, slots[2].at), (1, slots[2].at), (0, 0)]
