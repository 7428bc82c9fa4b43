"""A state in Redis that cannot be true is replaced by a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from worker.pace.errors import SlotTooFar
from worker.pace.search import Search
from worker.pace.slots import Pace
from worker.pace.token_bucket import Leg

KEY = "oathbulk:pace-3:made-up-license"
HOUR = 3600 * 1_000_000
NUMBERS = (
    "interval",
    "next_at",
    "held_until",
    "counted_since",
    "look_from",
    "last",
    "version",
    "answers",
    "lifted",
    "slots",
)
FOUND = Search(42.0, climb=0.0, ceiling=43.0, probe_after=300.0, probe_at=10**10)

MakePace = Callable[..., Pace]


def find(pace: Pace) -> None:
    """Write FOUND to Redis, as if the search had ended there."""
    pace.change(lambda search, _: FOUND)
    pace.wait()


def now(client: redis.Redis) -> int:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return seconds * 1_000_000 + microseconds


def assert_whole(pace: Pace) -> Search:
    """Assert that slots are given, that the search is the one that the process knew, and that its times are of now."""
    pace.wait()
    reading = pace.read()
    search = reading.search
    assert search is not None
    assert (search.rate, search.ceiling, search.climb) == (FOUND.rate, FOUND.ceiling, FOUND.climb)
    for moment in (search.begun_at, search.since, search.probe_at - 300):
        assert moment == pytest.approx(reading.now, abs=30)
    pace.report_answer(pace.wait())
    pace.wait()
    return search


@pytest.mark.parametrize("field", ["next_at", "held_until", "counted_since", "look_from"])
def test_times_further_ahead_than_anybody_can_wait_are_of_a_wrong_clock(
    make_pace: MakePace, client: redis.Redis, field: str
) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, field, now(client) + HOUR)
    assert_whole(pace)


@pytest.mark.parametrize("field", ["next_at", "held_until", "counted_since", "look_from"])
def test_a_dispatcher_that_only_reads_sees_that_too(make_pace: MakePace, client: redis.Redis, field: str) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, field, now(client) + HOUR)
    assert pace.read_hold_left() == 0
    assert client.exists(KEY) == 0


def test_times_as_far_ahead_as_may_be_stay(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=0.1)
    pace.wait()
    # An interval of ten seconds after the furthest slot that there is.
    client.hset(KEY, "next_at", now(client) + 19_000_000)
    with pytest.raises(SlotTooFar):
        pace.wait()
    pace.hold(120)
    before = client.hgetall(KEY)
    with pytest.raises(SlotTooFar):
        pace.wait()
    assert client.hgetall(KEY) == before


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "0x10", "1.5.2", "-"])
def test_what_is_no_number_is_begun_anew(make_pace: MakePace, client: redis.Redis, field: str, value: str) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, field, value)
    # Whatever a reservation makes of it, a tick of the dispatcher mends it.
    pace.read()
    assert_whole(pace)


@pytest.mark.parametrize("field", ["interval", "next_at", "held_until", "counted_since", "look_from", "answers"])
@pytest.mark.parametrize("value", ["soon", "nan"])
def test_no_reservation_needs_a_tick_for_that(make_pace: MakePace, client: redis.Redis, field: str, value: str) -> None:
    pace = make_pace()
    find(pace)
    pace.report_answer(pace.wait())
    client.hset(KEY, field, value)
    assert_whole(pace)


@pytest.mark.parametrize("field", ["counted_since", "look_from"])
def test_what_is_missing_is_begun_anew(make_pace: MakePace, client: redis.Redis, field: str) -> None:
    pace = make_pace()
    find(pace)
    client.hdel(KEY, field)
    assert_whole(pace)


@pytest.mark.parametrize(("field", "value"), [("rate", 0.0), ("rate", -5.0), ("climb", 1e-9)])
def test_a_search_that_is_none_is_begun_anew(
    make_pace: MakePace, client: redis.Redis, field: str, value: float
) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, field, value)
    pace.change(lambda search, _: replace(search, drop=0.0))
    assert_whole(pace)


@pytest.mark.parametrize("value", ["soon", "1,2", "1,nan,0", "1,2,0;;3", ",", "-1,2,0", "0,2,0", "1,0,1", "1,2,0,0"])
def test_a_path_that_is_none_is_begun_anew(make_pace: MakePace, client: redis.Redis, value: str) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, "path", value)
    pace.change(lambda search, _: replace(search, drop=0.0))
    assert_whole(pace)


def test_the_path_comes_back_as_it_was(make_pace: MakePace) -> None:
    path = (Leg(0.5, 12.0), Leg(1.25, 40.0, is_refused=True), Leg(2.06, 0.0))
    pace = make_pace()
    pace.change(lambda search, _: replace(FOUND, path=path))
    search = pace.read().search
    assert search is not None
    assert search.path == path


@pytest.mark.parametrize("ask", ["wait", "read", "read_hold_left", "hold", "report_undelivered"])
def test_a_key_of_another_type_is_begun_anew(make_pace: MakePace, client: redis.Redis, ask: str) -> None:
    pace = make_pace()
    find(pace)
    client.set(KEY, "not a hash")
    arguments: dict[str, tuple[Any, ...]] = {
        "hold": (0.001,),
        "report_undelivered": (0.001, "PingOne cannot be reached"),
    }
    getattr(pace, ask)(*arguments.get(ask, ()))
    assert_whole(pace)


def test_a_hold_that_may_be_true_outlives_a_state_that_cannot(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    find(pace)
    other.hold(60, "PingOne answered 503 and asks for 60 s")
    client.hset(KEY, "next_at", now(client) + HOUR)
    reading = pace.read()
    assert (reading.held_why, 59 < reading.hold_left <= 60) == ("PingOne answered 503 and asks for 60 s", True)
    assert 60_000 < client.pttl(KEY) <= 120_000  # type: ignore[operator]
    with pytest.raises(SlotTooFar):
        pace.wait()


def test_a_hold_that_cannot_be_true_is_told_again_by_who_asked_for_it(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    find(pace)
    pace.hold(60)
    client.hset(KEY, "held_until", now(client) + HOUR)
    assert other.read_hold_left() == 0
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    assert 58 < caught.value.wait <= 60


def test_a_new_hold_is_not_as_long_as_one_that_cannot_be_true(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace()
    find(pace)
    client.hset(KEY, "held_until", now(client) + HOUR)
    pace.hold(60)
    assert 59 < pace.read_hold_left() <= 60
