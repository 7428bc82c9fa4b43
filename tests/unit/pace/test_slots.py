"""Slots of the fleet: who gets which, and what comes of answers and refusals; through several paces and a real
Valkey."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from structlog.testing import capture_logs
from support.processes.waiting import wait_until
from support.servers.valkey import ValkeyServer

from worker.pace.redis_state import KEPT_MILLISECONDS, MICROSECONDS, Reading
from worker.pace.search import PaceOutOfReach, Search, SlotTooFar, restart_counting
from worker.pace.slots import AT_ONCE, Pace, Slot, Spacing, call_patiently

KEY = "oathbulk::pace-4:made-up-license"

# Slots so far apart that a test ends before the second of them: nobody sleeps, the waits tell the slots.
INTERVAL = 100.0
SLOW = {"rate": 1 / INTERVAL, "furthest": 1e6, "ahead": 1e6}
# Slots that are given out at once, however far ahead.
QUICK = {"rate": 100.0, "furthest": 1e6, "ahead": 1e6}
THREADS = 8

MakePace = Callable[..., Pace]


def numbers_of_slots(waits: list[float]) -> list[int]:
    """Which slots these waits are for, counted from the one at the start of the test."""
    return sorted(math.ceil(wait / INTERVAL) for wait in waits)


def next_at(client: redis.Redis) -> int:
    return int(client.hget(KEY, "next_at") or 0)  # type: ignore[arg-type]


def take_many(pace: Pace, times: int) -> list[Slot]:
    """Let threads take so many slots."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda _: pace.wait(), range(times)))


def test_the_first_slot_is_now_the_next_an_interval_later_and_none_is_saved_up_while_nobody_asks(
    make_pace: MakePace, client: redis.Redis
) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    pace.wait()
    assert waits == []
    first = next_at(client)
    for _ in range(3):
        pace.wait()
    assert numbers_of_slots(waits) == [1, 2, 3]
    assert next_at(client) == first + 3 * 100_000_000
    # As if eight slots had passed since: a bucket would let the next three pass at once.
    client.hincrby(KEY, "next_at", int(-8 * INTERVAL * 1e6))
    waits.clear()
    for _ in range(3):
        pace.wait()
    assert numbers_of_slots(waits) == [1, 2]


def test_no_slot_is_given_twice_to_threads_of_two_processes(make_pace: MakePace) -> None:
    waits: list[float] = []
    paces = [make_pace(**SLOW, sleep=waits.append) for _ in range(2)]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda number: paces[number % 2].wait(), range(200)))
    assert numbers_of_slots(waits) == list(range(1, 200))


def test_a_slot_too_far_is_not_reserved(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=1 / INTERVAL, furthest=2)
    pace.wait()
    before = next_at(client)
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    assert INTERVAL / 2 < caught.value.wait <= INTERVAL
    assert next_at(client) == before
    # The slots of another license are its own.
    make_pace(rate=1 / INTERVAL, license="other").wait()


def test_no_slot_is_given_out_long_before_it_is_due(make_pace: MakePace, client: redis.Redis) -> None:
    class Slept(Exception):
        pass

    given = list[int]()

    def sleep(wait: float) -> None:
        assert INTERVAL - 1 < wait < INTERVAL
        given.append(pace.read().slots)
        # Who comes meanwhile waits behind this thread, for no longer than it may.
        with ThreadPoolExecutor(1) as threads, pytest.raises(SlotTooFar):
            threads.submit(pace._reservations.reserve, 0.01).result()
        raise Slept

    pace = make_pace(rate=1 / INTERVAL, furthest=1e6, sleep=sleep)
    pace.wait()
    for _ in range(2):
        with pytest.raises(Slept):
            pace.wait()
    assert given == [1, 1]


def test_the_rate_may_differ_from_call_to_call(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(**SLOW)
    pace.wait()
    first = next_at(client)
    for rate in (0.02, 3.0):
        pace.change(lambda search, _, rate=rate: replace(search, rate=rate))  # type: ignore[misc]
        pace.wait()
    # 1/3 s, rounded so that the pace is kept.
    assert next_at(client) == first + 50_000_000 + 333_334


def test_what_is_past_leaves_redis_by_itself(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=0.1, longest_hold=1000)
    pace.hold(1000)
    assert 1_030_000 < client.pttl(KEY) <= 1_060_000  # type: ignore[operator]
    client.delete(KEY)
    make_pace(rate=0.1).wait()
    assert 0 < client.pttl(KEY) <= KEPT_MILLISECONDS  # type: ignore[operator]


# Who waits, and Redis meanwhile.


@pytest.mark.parametrize(
    ("furthest", "hold", "waits"),
    [
        # Beyond what anybody waits for.
        (10, 60, [10]),
        # The next would be 60 s away, which is less than the 80 that were allowed at the beginning.
        (80, 20, [10, 20, 40]),
    ],
)
def test_holds_that_come_meanwhile_stop_who_waits_and_let_it_wait_no_longer_than_for_the_furthest_slot(
    make_pace: MakePace, furthest: float, hold: float, waits: list[float]
) -> None:
    holding, waited, now = make_pace(), list[float](), [1000.0]

    def sleep(wait: float) -> None:
        waited.append(wait)
        now[0] += wait
        # Each ends after the slot that was waited for.
        holding.hold(hold * len(waited))

    pace = make_pace(rate=0.1, furthest=furthest, ahead=1e6, sleep=sleep, clock=lambda: now[0])
    pace.wait()
    with pytest.raises(SlotTooFar):
        pace.wait()
    assert waited == pytest.approx(waits, abs=5)


def test_after_a_hold_slots_are_spaced_as_ever(make_pace: MakePace) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append, longest_hold=10 * INTERVAL)
    pace.hold(10 * INTERVAL)
    take_many(make_pace(**SLOW, sleep=waits.append, longest_hold=10 * INTERVAL), 20)
    assert numbers_of_slots(waits) == list(range(10, 30))


def test_those_who_wait_for_the_end_of_a_hold_keep_their_slots(make_pace: MakePace) -> None:
    slept = list[float]()

    def clock() -> float:
        """Each wakes a little late, as anybody does."""
        return time.monotonic() + sum(slept) + len(slept)

    pace = make_pace(rate=100, furthest=1e6, ahead=1e6, sleep=slept.append, clock=clock)
    pace.hold(60)
    take_many(pace, THREADS)
    # Who lost its slot would ask for another.
    assert pace.read().slots == THREADS


def test_the_pace_goes_on_after_redis_was_wiped(make_pace: MakePace, client: redis.Redis) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    pace.wait()
    client.flushall()
    client.script_flush()
    # All threads get slots of a new state.
    assert len({slot.at for slot in take_many(pace, THREADS)}) == THREADS
    assert pace.read().slots == THREADS
    assert numbers_of_slots(waits) == list(range(1, THREADS))


def test_without_redis_nothing_goes_out_and_a_hold_is_kept_until_it_is_back(own_valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(own_valkey.url, retry=None) as client:  # type: ignore[arg-type]
        pace, other, failing = (Pace(client, "made-up-license", 1000, furthest=2) for _ in range(3))
        last = Pace(client, "made-up-license", 1, furthest=2, ahead=1e6, sleep=lambda _: own_valkey.stop())
        last.wait()
        with pytest.raises(SlotTooFar):
            # Redis is lost during its sleep, so that its slot lapses.
            last.wait()
        with ThreadPoolExecutor(THREADS) as threads:
            asking = [threads.submit(pace.wait) for _ in range(THREADS)]
        assert [(type(each.exception()), each.exception().wait) for each in asking] == [(PaceOutOfReach, 4)] * THREADS  # type: ignore[union-attr]
        pace.hold(60)
        failing.report_undelivered(90, "PingOne cannot be reached")
        with pytest.raises(redis.RedisError):
            pace.read_hold_left()
        own_valkey.start()
        assert other.read_hold_left() == 0
        for each, most in ((pace, 60), (failing, 90)):
            client.flushall()
            with pytest.raises(SlotTooFar) as caught:
                each.wait()
            assert most - 10 < caught.value.wait <= most
            assert other.read_hold_left() > most - 10


def test_answers_that_redis_decodes_are_understood_too(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        pace = Pace(client, "made-up-license", 1000)
        pace.wait()
        pace.wait()
        pace.hold(60)
        assert pace.read_hold_left() > 50


def test_a_redis_that_takes_no_scripts_is_told_of_once_a_minute(own_valkey: ValkeyServer) -> None:
    now = [1000.0]
    url = own_valkey.let_in("limited", "~* &* +@all -@scripting")
    with redis.Redis.from_url(url) as limited, capture_logs() as logs:
        pace = Pace(limited, "made-up-license", 1.0, clock=lambda: now[0])
        for _ in range(15):
            with pytest.raises(PaceOutOfReach):
                pace.wait()
            now[0] += 8
    told = [line for line in logs if line["event"] == "pace_out_of_reach"]
    assert len(told) == 2
    assert "permission" in told[0]["error"]
    assert "oathbulk doctor" in told[0]["cure"]


# What comes of answers and refusals.


def use(pace: Pace, requests: int) -> list[Slot]:
    """Make so many requests that are let through: so far ahead that no machine is too slow to use every slot."""
    begins_at = pace.read().now + 1000
    pace.change(lambda search, _: restart_counting(search, begins_at))
    pace.redis.hset(KEY, "next_at", int(begins_at * MICROSECONDS))
    slots = []
    for _ in range(requests):
        slots.append(pace.wait())
        pace.report_answer(slots[-1])
    return slots


def search_of(pace: Pace) -> Search:
    search = pace.read().search
    assert search is not None
    return search


def rate_of(pace: Pace) -> float:
    return search_of(pace).rate


def test_answers_raise_the_rate_of_the_whole_fleet(make_pace: MakePace) -> None:
    pace, other = make_pace(**QUICK), make_pace(**QUICK)
    take_many(pace, 40)
    assert rate_of(pace) == 100, "slots that came to nothing raise nothing"
    use(pace, 40)
    assert rate_of(pace) == rate_of(other) > 110
    assert other.wait().rate == pytest.approx(rate_of(pace), rel=0.01)


def test_no_rate_is_raised_above_the_highest(make_pace: MakePace) -> None:
    pace = make_pace(**QUICK, highest=105)
    use(pace, 60)
    assert rate_of(pace) == 105


def test_a_refusal_holds_the_fleet_and_lowers_its_rate_once(make_pace: MakePace) -> None:
    pace, other = make_pace(**QUICK), make_pace(**QUICK)
    slots = use(pace, 20)
    before = rate_of(pace)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: each.report_refusal(slots[-1], 60), [pace, other] * 2))
    after = rate_of(other)
    # Once more would make less than a quarter of it.
    assert 0.35 * before < after < 0.8 * before
    assert 50 < other.read_hold_left() <= 60
    # Those that were on the way at the same time tell the same once more.
    other.report_refusal(slots[-2], 60)
    assert rate_of(pace) == after


def test_a_change_is_made_upon_what_another_process_has_changed_and_slots_of_meanwhile_count_for_the_next(
    make_pace: MakePace,
) -> None:
    pace, other = make_pace(rate=100), make_pace(rate=100)
    for _ in range(3):
        pace.wait()
    assert pace.read().slots == 3
    changes = []

    def change(search: Search, _: Reading) -> Search:
        changes.append(search.rate)
        if len(changes) == 1:
            other.change(lambda search, _: replace(search, rate=50.0))
        other.wait()
        return replace(search, rate=search.rate + 1)

    assert pace.change(change).rate == rate_of(other) == 51
    assert (changes, pace.read().slots) == ([100, 50], 1)


KNOWN = Search(200.0, climb=0.0, ceiling=201.0)


@pytest.mark.parametrize(
    ("known", "highest", "rate"),
    [(KNOWN, math.inf, 200), (KNOWN, 50, 50), (replace(KNOWN, is_fixed=True), 50, 200)],
    ids=["as it was", "never above the highest", "but what a person fixed"],
)
def test_what_is_remembered_from_elsewhere_is_where_a_fleet_begins(
    make_pace: MakePace, known: Search, highest: float, rate: float
) -> None:
    pace = make_pace(rate=30, highest=highest, recall=lambda _: known)
    assert pace.wait().rate == pytest.approx(rate, rel=0.01)
    # Whoever comes later begins with the fleet.
    assert make_pace(rate=30).wait().rate == pytest.approx(rate, rel=0.01)


def test_a_fleet_that_is_let_nothing_through_asks_rarely_and_goes_on_at_the_rate_from_before(
    make_pace: MakePace, client: redis.Redis
) -> None:
    slept = list[float]()
    pace = make_pace(**QUICK, sleep=slept.append, clock=lambda: time.monotonic() + sum(slept))
    # The first request after the hold, a minute later, is refused as well.
    for _ in range(2):
        pace.report_refusal(pace.wait(), 60)
    closed = search_of(pace)
    assert (closed.rate, closed.open_rate > 2) == (2, True)
    assert 70 < pace.read_hold_left() <= 76
    assert pace.read().held_why == "PingOne is refusing every request, so oathbulk asks less and less often"
    # A Redis that forgets meanwhile goes on at the rate from before.
    client.flushall()
    assert pace.wait().rate == pytest.approx(closed.open_rate, rel=0.01)


def test_slots_that_were_given_out_before_a_refusal_tell_nothing_of_the_new_rate(make_pace: MakePace) -> None:
    """Threads wait for slots beyond a short hold: they are of the rate that was refused."""
    pace = make_pace(rate=10, furthest=100, ahead=1e6)
    slots = [pace.wait() for _ in range(15)]
    pace.report_answer(slots[0])
    pace.report_refusal(slots[1], 0.1)
    found = search_of(pace)
    assert found.rate < 10
    assert found.begun_at == pytest.approx(slots[-1].at / 1e6 + 0.1, abs=0.01)
    pace.report_refusal(slots[-1], 0.1)
    assert rate_of(pace) == found.rate


# Slots that the threads of a process queue for, and give back.


def note_reservations(monkeypatch: pytest.MonkeyPatch, pace: Pace, before: Callable[[], object]) -> list[list[int]]:
    """Note how many slots were asked for, how many answers were told, and the last of them; `before` comes first."""
    reserve, asked = pace._holds.reserve, list[list[int]]()

    def reserving(furthest: float, *asking: int) -> Any:
        asked.append(list(asking))
        before()
        return reserve(furthest, *asking)

    monkeypatch.setattr(pace._holds, "reserve", reserving)
    return asked


def test_who_is_first_asks_for_those_behind_it_and_for_nobody_else(
    make_pace: MakePace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, is_full = make_pace(**SLOW), threading.Event()
    pace.wait()
    asked = note_reservations(monkeypatch, pace, lambda: len(asked) > 1 or is_full.wait(30))
    with ThreadPoolExecutor(THREADS) as threads:
        asking = [threads.submit(pace.wait) for _ in range(THREADS)]
        wait_until(lambda: pace._reservations._waiting == THREADS, "all are in the queue")
        is_full.set()
        assert len({future.result().at for future in asking}) == THREADS
    # The first asked for those who were there by then, the second for the others.
    assert len(asked) <= 2
    assert sum(most for most, *_ in asked) == THREADS
    assert (pace._reservations._waiting, list(pace._reservations.reserved)) == (0, [])


def test_a_slot_that_nobody_took_is_lost_with_a_hold(make_pace: MakePace) -> None:
    pace = make_pace(**SLOW)
    slot = pace.wait()
    pace._reservations.reserved.append(slot)
    pace.hold(0.001)
    assert pace.wait().at > slot.at


def test_each_answer_is_told_once_and_none_of_a_former_rate(
    make_pace: MakePace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = make_pace()
    slots = [pace.wait() for _ in range(3)]
    told = note_reservations(monkeypatch, pace, lambda: None)
    for answered in ([0, 2, 1], [], [0]):
        for number in answered:
            pace.report_answer(slots[number])
        if answered != [0]:
            pace._reservations.report_answers()
    pace.change(lambda search, reading: restart_counting(search, reading.now + 60))
    pace._reservations.report_answers()
    pace.report_answer(slots[2])
    pace._reservations.report_answers()
    last = slots[2].at
    assert told == [[0, 3, last], [0, 0, last], [0, 1, last], [0, 0, 0]]


def test_a_slot_that_is_given_back_is_the_next_one_and_redis_is_not_asked(
    make_pace: MakePace, client: redis.Redis
) -> None:
    waits = list[float]()
    pace = make_pace(**SLOW, clock=lambda: 1000.0, sleep=waits.append)
    slot = pace.wait()
    before = next_at(client)
    for _ in range(1000):
        pace.give_back(slot)
        assert pace.wait() == slot
    assert next_at(client) == before
    assert waits == []


# Requests that leave late, in virtual time, and a command that waits for its slot however long the fleet holds.

# Between the fleet's slots, in seconds.
APART = 0.01


@dataclass
class Process:
    """One thread after another asks to leave; `left_at` tells when each did. `oversleeps`: seconds, once."""

    now: float = 1000.0
    left_at: list[float] = field(default_factory=list)
    oversleeps: float = 0.0

    def __post_init__(self) -> None:
        self.spacing = Spacing(self._sleep, lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds + self.oversleeps
        self.oversleeps = 0.0

    def leave(self, times: int) -> list[float]:
        """When these left, counted from the first of them."""
        for _ in range(times):
            self.spacing.wait_to_leave(APART)
            self.left_at.append(self.now)
        return [moment - self.left_at[-times] for moment in self.left_at[-times:]]


@pytest.mark.parametrize(
    ("idle", "oversleeps"),
    [(0.2, 0.0), (600.0, 0.0), (0.0, 0.2)],
    ids=["after a stall", "after ten idle minutes", "whose moments were slept through"],
)
def test_what_gathered_leaves_in_good_order(idle: float, oversleeps: float) -> None:
    process = Process(oversleeps=oversleeps)
    process.leave(20 if idle else AT_ONCE)
    process.now += idle
    left = process.leave(20)
    assert sum(seconds < 0.001 for seconds in left) == AT_ONCE
    assert left[-1] == pytest.approx((20 - AT_ONCE) * APART, rel=0.06)


def test_what_lags_catches_up_little_by_little_and_what_does_not_waits_for_nothing() -> None:
    assert Process().leave(400 + AT_ONCE)[-1] == pytest.approx(398 * APART, rel=0.001)
    process = Process()
    for _ in range(20):
        process.leave(1)
        process.now += APART
    assert process.left_at == pytest.approx([1000 + APART * number for number in range(20)])


@pytest.mark.parametrize(
    ("failures", "raised", "calls"),
    [
        ([], None, 1),
        ([SlotTooFar(0.0)] * 50, None, 51),
        # Redis out of reach is given up after five tries, any other failure is the caller's.
        ([PaceOutOfReach(0.0)] * 4, None, 5),
        ([PaceOutOfReach(0.0)] * 5, PaceOutOfReach, 5),
        ([ValueError("no")], ValueError, 1),
    ],
)
def test_a_command_tries_until_there_is_a_slot(
    failures: list[Exception], raised: type[Exception] | None, calls: int
) -> None:
    call = Mock(side_effect=[*failures, "done"])
    with pytest.raises(raised) if raised else nullcontext():
        assert call_patiently(call) == "done"
    assert call.call_count == calls
