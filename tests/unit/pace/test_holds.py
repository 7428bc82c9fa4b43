"""The fleet's holds, through the paces of several processes and a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from worker.pace.errors import SlotTooFar
from worker.pace.slots import Pace

KEY = "oathbulk:pace-3:made-up-license"
WHY = "PingOne answered 503 and asks for 60 s"

MakePace = Callable[..., Pace]


def deliver(pace: Pace) -> None:
    """Let a request be answered; the next reservation tells Redis."""
    pace.report_answer(pace.wait())
    pace.wait()


# How long a hold is at most.


@pytest.mark.parametrize("ask", [Pace.hold, Pace.report_undelivered])
def test_no_hold_is_longer_than_the_longest_whoever_asks_for_it(make_pace: MakePace, ask: Any) -> None:
    pace, other = make_pace(longest_hold=90), make_pace(longest_hold=90)
    ask(pace, 86_400, WHY)
    for each in (pace, other):
        assert 80 < each.read_hold_left() <= 90
        with pytest.raises(SlotTooFar) as caught:
            each.wait()
        assert caught.value.wait <= 90


def test_a_refusal_holds_no_longer_either(make_pace: MakePace) -> None:
    pace = make_pace(longest_hold=90)
    pace.report_refusal(pace.wait(), 86_400)
    assert 80 < pace.read_hold_left() <= 90


# Why it holds.


def test_a_hold_keeps_its_beginning_and_its_reason(make_pace: MakePace) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(60, WHY)
    reading = other.read()
    assert (reading.held_why, 50 < reading.hold_left <= 60) == (WHY, True)
    assert reading.held_since == pytest.approx(reading.now, abs=30)
    # A longer one has its own reason, and goes on with the same beginning.
    other.hold(100, "PingOne cannot be reached")
    longer = pace.read()
    assert (longer.held_since, longer.held_why) == (reading.held_since, "PingOne cannot be reached")
    # A shorter one changes nothing.
    pace.hold(5, WHY)
    assert pace.read().held_why == "PingOne cannot be reached"


def test_a_hold_that_is_told_again_a_moment_later_keeps_its_reason(make_pace: MakePace) -> None:
    pace = make_pace()
    pace.hold(60, WHY)
    pace.hold(60.2, "the token endpoint answered 503 and asks for 60 s")
    assert pace.read().held_why == WHY


def test_a_wiped_redis_is_told_the_reason_too(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(60, WHY)
    client.flushall()
    with pytest.raises(SlotTooFar):
        pace.wait()
    reading = other.read()
    assert (reading.held_why, reading.hold_left > 50) == (WHY, True)
    assert reading.held_since == pytest.approx(reading.now, abs=30)


# A person lifts it.


def test_a_lifted_hold_is_over_for_all_and_not_told_again(make_pace: MakePace) -> None:
    lifted: list[str] = []
    first = make_pace(on_lifted=lambda: lifted.append("first"))
    second = make_pace(on_lifted=lambda: lifted.append("second"))
    dispatcher = make_pace()
    first.hold(60, WHY)
    second.hold(60, WHY)
    dispatcher.lift()
    for pace in (first, second, dispatcher):
        pace.wait()
        assert pace.read_hold_left() == 0
    assert sorted(lifted) == ["first", "second"]


def test_a_hold_that_comes_after_one_was_lifted_stands(make_pace: MakePace, client: redis.Redis) -> None:
    pace, dispatcher = make_pace(), make_pace()
    pace.hold(60, WHY)
    dispatcher.lift()
    pace.hold(60, WHY)
    client.hdel(KEY, "held_until")
    with pytest.raises(SlotTooFar):
        pace.wait()
    assert dispatcher.read_hold_left() > 50


def test_a_hold_can_be_lifted_after_redis_was_wiped(make_pace: MakePace, client: redis.Redis) -> None:
    pace, dispatcher = make_pace(), make_pace()
    pace.hold(60, WHY)
    dispatcher.lift()
    pace.wait()
    pace.hold(60, WHY)
    client.flushall()
    dispatcher.lift()
    assert client.pttl(KEY) > 0  # type: ignore[operator]
    pace.wait()


def test_lifting_where_nothing_is_held_changes_nothing(make_pace: MakePace) -> None:
    pace = make_pace()
    deliver(pace)
    before = pace.read()
    pace.lift()
    after = pace.read()
    assert (after.search, after.next_slot, after.hold_left) == (before.search, before.next_slot, 0)


# Not delivered.


def test_who_fails_alone_holds_alone(make_pace: MakePace) -> None:
    sentences: list[str] = []
    slept: list[float] = []
    healthy, broken = make_pace(), make_pace(on_alone=sentences.append, sleep=slept.append)
    broken.wait()
    deliver(healthy)
    broken.report_undelivered(60, "PingOne cannot be reached")
    assert sentences == ["PingOne cannot be reached, and other processes deliver: only this one holds"]
    healthy.wait()
    assert (healthy.read_hold_left(), broken.read_hold_left()) == (0, 0)
    with pytest.raises(SlotTooFar) as caught:
        broken.wait()
    assert 40 < caught.value.wait <= 58
    # It took no message sooner than it would have waited for a slot.
    assert slept == [2.0]


def test_a_short_hold_of_its_own_is_waited_for(make_pace: MakePace) -> None:
    healthy, broken = make_pace(), make_pace(sleep=time.sleep)
    deliver(healthy)
    broken.report_undelivered(0.3, "PingOne cannot be reached")
    began = time.monotonic()
    broken.wait()
    assert time.monotonic() - began >= 0.29


def test_those_who_wait_for_a_slot_when_their_process_begins_to_hold_do_not_go(make_pace: MakePace) -> None:
    healthy = make_pace(rate=2)

    def sleep(_: float) -> None:
        deliver(healthy)
        broken.report_undelivered(60, "PingOne cannot be reached")

    broken = make_pace(rate=2, sleep=sleep)
    broken.wait()
    with pytest.raises(SlotTooFar):
        broken.wait()


def test_the_fleet_holds_where_nobody_else_delivers(make_pace: MakePace) -> None:
    sentences: list[str] = []
    pace, other = make_pace(on_alone=sentences.append), make_pace()
    other.wait()
    pace.report_undelivered(60, "PingOne cannot be reached")
    assert 50 < other.read_hold_left() <= 60
    assert other.read().held_why == "PingOne cannot be reached"
    assert sentences == []


def test_the_fleet_holds_where_only_who_fails_has_delivered(make_pace: MakePace) -> None:
    pace, other = make_pace(), make_pace()
    deliver(pace)
    pace.report_undelivered(60, "PingOne cannot be reached")
    assert other.read_hold_left() > 50


def test_what_another_delivered_long_ago_shows_nothing(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    deliver(other)
    long_ago = int(client.hget(KEY, "delivered_at") or 0) - 11_000_000  # type: ignore[arg-type]
    client.hset(KEY, "delivered_at", long_ago)
    pace.report_undelivered(60, "PingOne cannot be reached")
    assert other.read_hold_left() > 50


def test_a_process_that_holds_alone_hears_that_a_person_lifted_it(make_pace: MakePace) -> None:
    healthy, broken = make_pace(), make_pace()
    deliver(healthy)
    broken.report_undelivered(60, "PingOne cannot be reached")
    healthy.lift()
    broken.wait()


def test_without_redis_who_fails_tells_the_fleet_when_it_is_back(own_valkey: Any) -> None:
    with redis.Redis.from_url(own_valkey.url, retry=None) as client:  # type: ignore[arg-type]
        pace, other = (Pace(client, "made-up-license", 1000) for _ in range(2))
        own_valkey.stop()
        pace.report_undelivered(60, "PingOne cannot be reached")
        own_valkey.start()
        with pytest.raises(SlotTooFar):
            pace.wait()
        assert other.read_hold_left() > 50
