"""Slots that the threads of a process queue for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from support.processes.waiting import wait_until

from worker.pace.errors import PaceOutOfReach
from worker.pace.search import restart_counting
from worker.pace.slots import Pace

THREADS = 8


def make_pace(client: redis.Redis) -> Pace:
    """A pace whose slots are far apart, and whose threads do not sleep until them."""
    return Pace(client, "made-up-license", 0.01, furthest=1e6, ahead=1e6, sleep=lambda _: None)


def test_where_redis_was_wiped_all_threads_get_slots_of_a_new_state(client: redis.Redis) -> None:
    pace = make_pace(client)
    pace.wait()
    client.flushall()
    with ThreadPoolExecutor(THREADS) as threads:
        assert len({slot.at for slot in threads.map(lambda _: pace.wait(), range(THREADS))}) == THREADS
    assert pace.read().slots == THREADS


def test_where_redis_is_out_of_reach_every_thread_hears_of_it(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise redis.ConnectionError("gone")

    pace = make_pace(client)
    monkeypatch.setattr(pace._holds, "reserve", refuse)
    with ThreadPoolExecutor(THREADS) as threads:
        asking = [threads.submit(pace.wait) for _ in range(THREADS)]
    assert [type(future.exception()) for future in asking] == [PaceOutOfReach] * THREADS


def test_the_thread_that_hears_of_enough_answers_reviews_the_rate(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, reviews = make_pace(client), list[None]()
    pace.wait()
    monkeypatch.setattr(pace._rate, "review", lambda: reviews.append(None))
    pace.wait()
    assert not reviews
    # There are enough answers from the beginning.
    client.hset("oathbulk:pace-3:made-up-license", "look_from", 0)
    pace.wait()
    assert len(reviews) == 1


def test_who_is_first_asks_for_those_behind_it_and_for_nobody_else(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, asked = make_pace(client), list[int]()
    pace.wait()
    reservations = pace._reservations
    reserve, is_full = pace._holds.reserve, threading.Event()

    def reserving(furthest: float, most: int, answers: int, last: int) -> Any:
        asked.append(most)
        # Only the first waits for the others to be behind it.
        assert len(asked) > 1 or is_full.wait(30)
        return reserve(furthest, most, answers, last)

    monkeypatch.setattr(pace._holds, "reserve", reserving)
    with ThreadPoolExecutor(THREADS) as threads:
        asking = [threads.submit(pace.wait) for _ in range(THREADS)]
        wait_until(lambda: reservations._waiting == THREADS, 30, "all are in the queue")
        is_full.set()
        assert len({future.result().at for future in asking}) == THREADS
    # The first asked for those who were there by then, the second for the others.
    assert len(asked) <= 2
    assert sum(asked) == THREADS
    assert (reservations._waiting, list(reservations._reserved)) == (0, [])


def test_who_has_its_slot_is_not_counted_any_more_when_the_next_may_ask(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, counted = make_pace(client), list[int]()
    reservations = pace._reservations

    class Queue:
        def acquire(self, *, timeout: float) -> bool:
            return True

        def release(self) -> None:
            counted.append(reservations._waiting)

    monkeypatch.setattr(reservations, "_queue", Queue())
    pace.wait()
    assert counted == [0]


def test_a_slot_that_nobody_took_is_lost_with_a_hold(client: redis.Redis) -> None:
    pace = make_pace(client)
    slot = pace.wait()
    pace._reservations._reserved.append(slot)
    pace.hold(0.001)
    assert pace.wait().at > slot.at


def test_each_answer_is_told_once_and_none_of_a_former_rate(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(client, "made-up-license", 1000.0, sleep=lambda _: None)
    slots = [pace.wait() for _ in range(3)]
    told = list[tuple[int, int]]()
    reserve = pace._holds.reserve

    def telling(furthest: float, most: int, answers: int, last: int) -> Any:
        told.append((answers, last))
        return reserve(furthest, most, answers, last)

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
