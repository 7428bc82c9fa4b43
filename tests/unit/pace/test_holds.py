"""The fleet's holds: through the paces of several processes and a real Valkey, and as one process knows them."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from worker.pace.rate_groups import SlotTooFar
from worker.pace.slots import MOST_KEPT, RECENT, USABLE_FOR, Holds, Pace, Slot, SpareSlots
from worker.pace.state import Reservation

KEY = "oathbulk:pace-3:made-up-license"
WHY, UNREACHABLE = "PingOne answered 503 and asks for 60 s", "PingOne cannot be reached"

MakePace = Callable[..., Pace]


def deliver(pace: Pace) -> None:
    """Let a request be answered; the next reservation tells Redis."""
    pace.report_answer(pace.wait())
    pace.wait()


def wait_in_vain(pace: Pace) -> float:
    """For how long there is no slot."""
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    return caught.value.wait


# How long a hold is, and why it holds.


@pytest.mark.parametrize(
    "ask", [Pace.hold, Pace.report_undelivered, lambda pace, *hold: pace.report_refusal(pace.wait(), *hold)]
)
def test_no_hold_is_longer_than_the_longest_whoever_asks_for_it(make_pace: MakePace, ask: Any) -> None:
    pace, other = make_pace(longest_hold=90), make_pace(longest_hold=90)
    ask(pace, 86_400, WHY)
    for each in (pace, other):
        assert 80 < each.read_hold_left() <= 90
        assert wait_in_vain(each) <= 90


def test_a_hold_keeps_its_beginning_and_its_reason(make_pace: MakePace) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(60, WHY)
    # One that is told again a moment later keeps its reason.
    pace.hold(60.2, "the token endpoint answered 503 and asks for 60 s")
    reading = other.read()
    assert (reading.held_why, 50 < reading.hold_left <= 60.2) == (WHY, True)
    assert reading.held_since == pytest.approx(reading.now, abs=30)
    # A longer one has its own reason, and goes on with the same beginning.
    other.hold(100, UNREACHABLE)
    assert (pace.read().held_since, pace.read().held_why) == (reading.held_since, UNREACHABLE)
    # Shorter ones change nothing.
    for seconds in (5, 0, -5):
        pace.hold(seconds, WHY)
    assert (pace.read().held_why, pace.read().hold_left > 90) == (UNREACHABLE, True)


def test_a_wiped_redis_is_told_of_the_hold_by_who_asked_for_it(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(60, WHY)
    client.flushall()
    assert other.read_hold_left() == 0
    wait_in_vain(pace)
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
    wait_in_vain(pace)
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


def test_who_fails_alone_holds_alone_until_a_person_lifts_it(make_pace: MakePace) -> None:
    sentences: list[str] = []
    slept: list[float] = []
    healthy, broken = make_pace(), make_pace(on_alone=sentences.append, sleep=slept.append)
    broken.wait()
    deliver(healthy)
    broken.report_undelivered(60, UNREACHABLE)
    assert sentences == ["PingOne cannot be reached, and other processes deliver: only this one holds"]
    healthy.wait()
    assert (healthy.read_hold_left(), broken.read_hold_left()) == (0, 0)
    assert 40 < wait_in_vain(broken) <= 58
    # It took no message sooner than it would have waited for a slot.
    assert slept == [2.0]
    healthy.lift()
    broken.wait()


def test_a_short_hold_of_its_own_is_waited_for(make_pace: MakePace) -> None:
    healthy, broken = make_pace(), make_pace(sleep=time.sleep)
    deliver(healthy)
    broken.report_undelivered(0.3, UNREACHABLE)
    began = time.monotonic()
    broken.wait()
    assert time.monotonic() - began >= 0.29


def test_those_who_wait_for_a_slot_when_their_process_begins_to_hold_do_not_go(make_pace: MakePace) -> None:
    healthy = make_pace(rate=2)

    def sleep(_: float) -> None:
        deliver(healthy)
        broken.report_undelivered(60, UNREACHABLE)

    broken = make_pace(rate=2, sleep=sleep)
    broken.wait()
    wait_in_vain(broken)


@pytest.mark.parametrize("delivers", ["nobody", "who fails", "another, long ago"])
def test_the_fleet_holds_where_nobody_else_delivers(make_pace: MakePace, client: redis.Redis, delivers: str) -> None:
    sentences: list[str] = []
    pace, other = make_pace(on_alone=sentences.append), make_pace()
    other.wait()
    if delivers != "nobody":
        deliver(pace if delivers == "who fails" else other)
    if delivers == "another, long ago":
        client.hset(KEY, "delivered_at", int(client.hget(KEY, "delivered_at") or 0) - 11_000_000)  # type: ignore[arg-type]
    pace.report_undelivered(60, UNREACHABLE)
    assert 50 < other.read_hold_left() <= 60
    assert other.read().held_why == UNREACHABLE
    assert sentences == []


# What one process knows by itself, of a state in Redis that answers as a test says.

SLOT = Slot(5_000_000, 30.0, 1000.0)


class Known:
    """The holds of a process and the slots that it keeps, and all that it hears of Redis."""

    def __init__(self, *, is_alone: bool = False) -> None:
        self.now, self.held_until, self.reads, self.lifted = 1000.0, 0, 0, 0
        state = SimpleNamespace(
            hold=lambda *_: 17,
            report_undelivered=lambda *_: (is_alone, 0),
            reserve=lambda *_: Reservation(self.held_until, 1000, 0, 0, 0, reserved=0, slot=0, wait=0),
            read_held_until=self._read,
        )
        told: Any = {"on_alone": lambda _: None, "on_lifted": self._count_lifting}
        self.holds = Holds(state, 120.0, lambda: self.now, **told)  # type: ignore[arg-type]
        self.holds.note_lifting(17)
        self.spare_slots = SpareSlots(self.holds, lambda: self.now)

    def _read(self) -> int:
        self.reads += 1
        return self.held_until

    def _count_lifting(self) -> None:
        self.lifted += 1


def test_a_hold_is_remembered_extended_never_shortened_and_ends_by_itself() -> None:
    known, left = Known(), list[float]()
    for seconds, passed in ((5, 0.0), (2, 0.0), (7, 3.0), (0, 5.0)):
        known.holds.hold(seconds, WHY)
        known.now += passed
        left.append(known.holds.fleet_left)
    assert left == [5, 5, 4, 0]


def test_while_its_own_hold_lasts_no_slot_is_good() -> None:
    known = Known(is_alone=True)
    known.holds.report_undelivered(5, UNREACHABLE)
    known.holds.report_undelivered(2, UNREACHABLE)
    assert (known.holds.fleet_left, known.holds.own_left) == (0, 5)
    assert known.holds.is_held_past(10**18)
    known.now += 6
    assert not known.holds.is_held_past(10**18)


def test_what_was_heard_just_now_decides_and_later_it_is_asked_for() -> None:
    known = Known()
    known.held_until = 500
    known.holds.reserve(0.0, 0, 0, 0)
    assert (known.holds.is_held_past(499), known.holds.is_held_past(500), known.reads) == (True, False, 0)
    known.now += 1.1 * RECENT
    assert (known.holds.is_held_past(499), known.reads) == (True, 1)


def test_what_a_person_lifts_is_forgotten_once() -> None:
    known = Known()
    known.holds.hold(5, "")
    # Heard of before, a wiped Redis that knows of none, and another time.
    assert [(known.holds.note_lifting(at), known.holds.fleet_left) for at in (17, 0, 16)] == [
        (False, 5),
        (False, 5),
        (True, 0),
    ]
    assert known.lifted == 2


@pytest.mark.parametrize(
    ("begins", "hold", "heard_until", "passed", "is_good"),
    [
        (1000.0, 0.0, 0, USABLE_FOR, True),
        (1000.0, 0.0, 0, USABLE_FOR + 0.01, False),
        # A hold of its own, one that it heard of, and one that was over before.
        (1000.0, 0.2, 0, 0.3, False),
        (1000.0, 0.0, SLOT.at + 1, 0.3, False),
        (990.0, 5.0, SLOT.at - 1, 10.0, True),
    ],
)
def test_a_slot_that_is_kept_is_taken_once_where_it_is_not_old_and_no_hold_came(
    begins: float, hold: float, heard_until: int, passed: float, is_good: bool
) -> None:
    known = Known()
    known.now, known.held_until = begins, heard_until
    known.spare_slots.add(SLOT)
    known.holds.hold(hold, "")
    known.holds.reserve(0.0, 0, 0, 0)
    known.now += passed
    assert [known.spare_slots.take(), known.spare_slots.take()] == [SLOT if is_good else None, None]


def test_no_more_slots_are_kept_than_may_leave_at_once() -> None:
    known = Known()
    for _ in range(MOST_KEPT + 5):
        known.spare_slots.add(SLOT)
    assert [known.spare_slots.take() for _ in range(MOST_KEPT + 1)] == [*[SLOT] * MOST_KEPT, None]
