from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from support.processes.waiting import wait_until
from support.servers.valkey import ValkeyServer

from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.search import SPRINT, Search
from worker.pace.slots import USABLE_FOR, Pace, Slot
from worker.pace.state import KEPT_MILLISECONDS, MICROSECONDS, Reading
from worker.pace.token_bucket import Leg

KEY = "oathbulk:pace-3:made-up-license"

# Slots so far apart that a test ends before the second of them: nobody sleeps, the waits tell the slots.
INTERVAL = 100.0
SLOW = {"rate": 1 / INTERVAL, "furthest": 1e6, "ahead": 1e6}

# Seconds that a busy machine may take for anything.
PATIENCE = 30.0

# Reserves slots without sleeping until them, and prints how far away those were that were not at once.
FLEET_MEMBER = """
import sys, redis
from worker.pace.search import Search
from worker.pace.state import KEPT_MILLISECONDS
from worker.pace.slots import Pace, Slot

with redis.Redis.from_url(sys.argv[1]) as client:
    waits = []
    pace = Pace(client, "made-up-license", 1 / 100, furthest=1e6, ahead=1e6, sleep=waits.append)
    for _ in range(int(sys.argv[2])):
        pace.wait()
print(*waits)
"""

MakePace = Callable[..., Pace]


@pytest.fixture
def make_pace(client: redis.Redis) -> MakePace:
    """Makes the paces of members of the fleet: two objects have no more in common than two processes."""

    def make(rate: float = 1.0, license: str = "made-up-license", **options: Any) -> Pace:
        return Pace(client, license, rate, **options)

    return make


def numbers_of_slots(waits: list[float]) -> list[int]:
    """Which slots these waits are for, counted from the one at the start of the test."""
    return sorted(math.ceil(wait / INTERVAL) for wait in waits)


def next_at(client: redis.Redis) -> int:
    return int(client.hget(KEY, "next_at") or 0)  # type: ignore[arg-type]


def test_the_first_slot_is_now_and_the_next_an_interval_later(make_pace: MakePace, client: redis.Redis) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    pace.wait()
    assert waits == []
    first = next_at(client)
    for _ in range(3):
        pace.wait()
    assert numbers_of_slots(waits) == [1, 2, 3]
    assert next_at(client) == first + 3 * 100_000_000


def test_no_slot_is_saved_up_while_nobody_asks(make_pace: MakePace, client: redis.Redis) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    pace.wait()
    # As if four slots had passed since.
    client.hincrby(KEY, "next_at", int(-5 * INTERVAL * 1e6))
    for _ in range(3):
        pace.wait()
    # A bucket would let the three pass at once.
    assert numbers_of_slots(waits) == [1, 2]


def test_no_slot_is_given_twice_to_several_threads(make_pace: MakePace) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    with ThreadPoolExecutor(8) as threads:
        for waited in [threads.submit(pace.wait) for _ in range(200)]:
            waited.result()
    assert numbers_of_slots(waits) == list(range(1, 200))


def test_no_slot_is_given_twice_to_two_processes(valkey_url: str) -> None:
    argv = [sys.executable, "-c", FLEET_MEMBER, valkey_url, "100"]
    members = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    waits = [float(wait) for member in members for wait in member.communicate(timeout=30)[0].split()]
    assert [member.returncode for member in members] == [0, 0]
    assert numbers_of_slots(waits) == list(range(1, 200))


def test_the_fleet_wakes_no_faster_than_its_pace(make_pace: MakePace) -> None:
    paces = [make_pace(rate=100), make_pace(rate=100)]
    woken_at: list[float] = []
    began = time.monotonic()

    def wait(number: int) -> None:
        paces[number % 2].wait()
        woken_at.append(time.monotonic())

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(wait, range(60)))
    for number, moment in enumerate(sorted(woken_at)):
        # A thousandth for Redis' clock, which may be slewed while ours is not.
        assert moment >= began + number / 100 - 0.001


def test_a_slot_too_far_is_not_reserved(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=1 / INTERVAL, furthest=2)
    pace.wait()
    before = next_at(client)
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    assert INTERVAL / 2 < caught.value.wait <= INTERVAL
    assert next_at(client) == before


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
    pace = make_pace(**SLOW, sleep=lambda wait: None)
    pace.wait()
    first = next_at(client)
    pace.change(lambda search, reading: replace(search, rate=0.02))
    pace.wait()
    pace.change(lambda search, reading: replace(search, rate=3.0))
    pace.wait()
    # 1/3 s, rounded so that the pace is kept.
    assert next_at(client) == first + 50_000_000 + 333_334


def test_licenses_have_paces_of_their_own(make_pace: MakePace) -> None:
    """The next slot of one license would be a hundred seconds away."""
    for name in ("one", "other"):
        make_pace(rate=0.01, license=name).wait()


def test_what_is_past_leaves_redis_by_itself(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=0.1, longest_hold=1000)
    pace.hold(1000)
    assert 1_030_000 < client.pttl(KEY) <= 1_060_000  # type: ignore[operator]
    client.delete(KEY)
    pace = make_pace(rate=0.1)
    pace.wait()
    assert 0 < client.pttl(KEY) <= KEPT_MILLISECONDS  # type: ignore[operator]


def test_a_hold_stops_all(make_pace: MakePace) -> None:
    make_pace().hold(60)
    other = make_pace(rate=100)
    with pytest.raises(SlotTooFar) as caught:
        other.wait()
    assert 50 < caught.value.wait <= 60
    assert 50 < other.read_hold_left() <= 60


def test_a_hold_stops_those_who_wait_for_their_slot_already(make_pace: MakePace) -> None:
    holding, now = make_pace(), [1000.0]

    def sleep(wait: float) -> None:
        holding.hold(60)
        now[0] += wait

    pace = make_pace(rate=0.1, furthest=10, ahead=1e6, sleep=sleep, clock=lambda: now[0])
    pace.wait()
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    assert 50 < caught.value.wait <= 60


def test_a_short_hold_is_waited_for(make_pace: MakePace) -> None:
    began = time.monotonic()
    make_pace().hold(0.3)
    make_pace(rate=1000).wait()
    assert time.monotonic() - began >= 0.299


def test_a_wait_lasts_no_longer_than_the_furthest_slot_however_many_holds_come(make_pace: MakePace) -> None:
    holding, waits, now = make_pace(), list[float](), [1000.0]

    def sleep(wait: float) -> None:
        waits.append(wait)
        now[0] += wait
        # Each ends after the slot that was waited for.
        holding.hold(20 * len(waits))

    pace = make_pace(rate=0.1, furthest=80, ahead=1e6, sleep=sleep, clock=lambda: now[0])
    pace.wait()
    with pytest.raises(SlotTooFar):
        pace.wait()
    # Up to 10, 20 and 40 s; the next would be 60 s away, which is less than the 80 that were allowed at the beginning.
    assert len(waits) == 3
    assert sum(waits) <= 80


def test_after_a_hold_slots_are_spaced_as_ever(make_pace: MakePace) -> None:
    waits: list[float] = []
    make_pace(longest_hold=10 * INTERVAL).hold(10 * INTERVAL)
    pace = make_pace(**SLOW, sleep=waits.append, longest_hold=10 * INTERVAL)
    with ThreadPoolExecutor(4) as threads:
        for waited in [threads.submit(pace.wait) for _ in range(20)]:
            waited.result()
    assert numbers_of_slots(waits) == list(range(10, 30))


def test_those_who_wait_for_the_end_of_a_hold_keep_their_slots(make_pace: MakePace) -> None:
    waits, now = list[float](), [1000.0]

    def sleep(wait: float) -> None:
        waits.append(wait)
        # It wakes a little late, as anybody does.
        now[0] += wait + 1

    pace = make_pace(rate=100, furthest=1e6, ahead=1e6, sleep=sleep, clock=lambda: now[0])
    pace.hold(60)
    with ThreadPoolExecutor(8) as threads:
        for waited in [threads.submit(pace.wait) for _ in range(8)]:
            waited.result()
    # Who lost its slot would ask for another.
    assert pace.read().slots == 8


def test_a_hold_is_never_shortened(make_pace: MakePace) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(100)
    pace.hold(10)
    other.hold(10)
    other.hold(0)
    other.hold(-5)
    assert pace.read_hold_left() > 90
    assert other.read_hold_left() > 90
    other.hold(110)
    assert pace.read_hold_left() > 100


def test_without_a_hold_nothing_is_held(make_pace: MakePace) -> None:
    pace = make_pace()
    assert pace.read_hold_left() == 0
    pace.wait()
    assert pace.read_hold_left() == 0


def test_a_hold_ends(make_pace: MakePace) -> None:
    pace = make_pace(rate=1000)
    pace.hold(0.05)
    wait_until(lambda: pace.read_hold_left() == 0, PATIENCE, "the hold is over")
    pace.wait()


def test_the_pace_goes_on_after_redis_was_wiped(make_pace: MakePace, client: redis.Redis) -> None:
    waits: list[float] = []
    pace = make_pace(**SLOW, sleep=waits.append)
    pace.wait()
    client.flushall()
    client.script_flush()
    pace.wait()
    assert waits == []
    pace.wait()
    assert numbers_of_slots(waits) == [1]


def test_whoever_asked_for_a_hold_tells_a_wiped_redis_again(make_pace: MakePace, client: redis.Redis) -> None:
    pace, other = make_pace(), make_pace()
    pace.hold(60)
    client.flushall()
    assert other.read_hold_left() == 0
    with pytest.raises(SlotTooFar):
        pace.wait()
    assert other.read_hold_left() > 50


def test_without_redis_nothing_goes_out_and_a_hold_is_kept_until_it_is_back(own_valkey: Any) -> None:
    with redis.Redis.from_url(own_valkey.url, retry=None) as client:  # type: ignore[arg-type]
        pace, other = (Pace(client, "made-up-license", 1000, furthest=2) for _ in range(2))
        pace.wait()
        own_valkey.stop()
        with pytest.raises(SlotTooFar) as caught:
            pace.wait()
        assert caught.value.wait == 4
        assert isinstance(caught.value.__cause__, redis.RedisError)
        pace.hold(60)
        with pytest.raises(redis.RedisError):
            pace.read_hold_left()
        own_valkey.start()
        assert other.read_hold_left() == 0
        with pytest.raises(SlotTooFar) as caught:
            pace.wait()
        assert 50 < caught.value.wait <= 60
        assert other.read_hold_left() > 50


def test_redis_lost_during_the_sleep_lets_the_slot_lapse(own_valkey: Any) -> None:
    with redis.Redis.from_url(own_valkey.url, retry=None) as client:  # type: ignore[arg-type]
        pace = Pace(client, "made-up-license", 1, furthest=2, ahead=1e6, sleep=lambda wait: own_valkey.stop())
        pace.wait()
        with pytest.raises(SlotTooFar):
            pace.wait()


def test_answers_that_redis_decodes_are_understood_too(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        pace = Pace(client, "made-up-license", 1000)
        pace.wait()
        pace.wait()
        pace.hold(60)
        assert pace.read_hold_left() > 50


def test_a_hold_by_one_thread_reaches_the_sleeping_others(make_pace: MakePace) -> None:
    """All at once: who sleeps when the hold comes does not go when it wakes."""
    all_sleep, is_held, now = threading.Barrier(9), threading.Event(), [1000.0]

    def sleep(_: float) -> None:
        if not is_held.is_set():
            all_sleep.wait(PATIENCE)
        assert is_held.wait(PATIENCE)

    pace, holding = make_pace(rate=0.5, furthest=30, ahead=1e6, sleep=sleep, clock=lambda: now[0]), make_pace()
    pace.wait()
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(pace.wait) for _ in range(8)]
        all_sleep.wait(PATIENCE)
        holding.hold(100)
        now[0] += 1
        is_held.set()
        for waited in waiting:
            with pytest.raises(SlotTooFar):
                waited.result()


def use(pace: Pace, requests: int) -> list[Slot]:
    """Make so many requests that are let through; and once more where a new count has begun meanwhile, since the
    machine stood still."""
    while True:
        slots = []
        for _ in range(requests):
            slots.append(pace.wait())
            pace.report_answer(slots[-1])
        (search,) = searches(pace)
        if search.begun_at * MICROSECONDS <= slots[0].at:
            return slots


def searches(*paces: Pace) -> list[Search]:
    return [pace.read().search for pace in paces]  # type: ignore[misc]


def rates(*paces: Pace) -> list[float]:
    return [search.rate for search in searches(*paces)]


def test_answers_raise_the_rate_of_the_whole_fleet(make_pace: MakePace) -> None:
    pace, other = make_pace(rate=100), make_pace(rate=100)
    use(pace, 40)
    rate, same = rates(pace, other)
    assert rate == same > 110
    assert other.wait().rate == pytest.approx(rate, rel=0.01)


def test_slots_that_came_to_nothing_raise_nothing(make_pace: MakePace) -> None:
    pace = make_pace(rate=100)
    for _ in range(40):
        pace.wait()
    assert rates(pace) == [100]


def test_no_rate_is_raised_above_the_highest(make_pace: MakePace) -> None:
    pace = make_pace(rate=100, highest=105)
    use(pace, 60)
    assert rates(pace) == [105]


def test_a_refusal_holds_the_fleet_and_lowers_its_rate(make_pace: MakePace) -> None:
    pace, other = make_pace(rate=100), make_pace(rate=100)
    slots = use(pace, 20)
    (before,) = rates(pace)
    pace.report_refusal(slots[-1], 60)
    assert rates(other)[0] < 0.8 * before
    assert 50 < other.read_hold_left() <= 60
    # Those that were on the way at the same time tell the same once more.
    after = rates(pace)
    other.report_refusal(slots[-2], 60)
    assert rates(pace) == after


def test_two_refusals_at_once_count_as_one(make_pace: MakePace) -> None:
    paces = [make_pace(rate=100) for _ in range(4)]
    slot = use(paces[0], 20)[-1]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda pace: pace.report_refusal(slot, 1.0), paces))
    # Once more would make less than a quarter of it.
    assert 0.35 * slot.rate < rates(paces[0])[0] < 0.8 * slot.rate


def test_a_change_is_made_upon_what_another_process_has_changed(make_pace: MakePace) -> None:
    pace, other = make_pace(rate=100), make_pace(rate=100)
    pace.wait()
    changes = []

    def change(search: Search, _: object) -> Search:
        changes.append(search.rate)
        if len(changes) == 1:
            other.change(lambda search, _: replace(search, rate=50.0))
        return replace(search, rate=search.rate + 1)

    assert pace.change(change).rate == 51
    assert changes == [100, 50]
    assert rates(other) == [51]


def test_a_wiped_redis_is_told_the_rate_that_was_found(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=100)
    pace.change(lambda search, _: replace(search, rate=42.0, climb=0.0, ceiling=43.0))
    client.flushall()
    pace.wait()
    found = pace.read().search
    assert found is not None
    assert (found.rate, found.ceiling, found.climb) == (42, 43, 0)


def test_what_is_remembered_from_elsewhere_is_where_a_process_begins(make_pace: MakePace) -> None:
    pace = make_pace(rate=100, recall=lambda now: Search(200.0, climb=0.0, ceiling=201.0, begun_at=now))
    assert pace.wait().rate == pytest.approx(200, rel=0.01)
    # Whoever comes later begins with the fleet.
    other = make_pace(rate=100)
    assert other.wait().rate == pytest.approx(200, rel=0.01)


def test_nothing_that_is_remembered_is_above_the_highest_but_what_a_person_fixed(
    make_pace: MakePace, client: redis.Redis
) -> None:
    known = Search(200.0, climb=0.0, ceiling=201.0)
    pace = make_pace(rate=30, highest=50, recall=lambda _: known)
    assert pace.wait().rate == pytest.approx(50, rel=0.01)
    client.flushall()
    pace = make_pace(rate=30, highest=50, recall=lambda _: replace(known, is_fixed=True))
    assert pace.wait().rate == pytest.approx(200, rel=0.01)


def test_what_another_version_left_in_redis_is_begun_anew(make_pace: MakePace, client: redis.Redis) -> None:
    """A fleet is upgraded while its pace stands in Redis: these are the fields of version 0.1.0."""
    at = int(client.time()[0])  # type: ignore[index]
    numbers = {"rate": 100, "climb": 0, "begun_at": at, "since": at, "changed_at": at, "speed": 0, "ceiling": 101}
    times = {"counted_since": at * 1_000_000, "look_from": at * 1_000_000, "next_at": at * 1_000_000}
    rest = ("refused_rate", "refused_climb", "drop", "lasted", "has_fallen", "share", "is_fixed", "answers", "last")
    later = {"probe_at": at + 120, "probe_after": 120, "version": 7, "interval": 10_000}
    client.hset(KEY, mapping=numbers | times | dict.fromkeys(rest, 0) | later)
    pace = make_pace(rate=50)
    pace.wait()
    pace.change(lambda search, reading: replace(search, rate=search.rate + 1))
    assert rates(pace) == [51]


def test_a_sprint_goes_no_faster_than_the_highest_rate(make_pace: MakePace) -> None:
    pace = make_pace(rate=100, highest=100)
    pace.wait()
    stay = {"climb": 0.0, "ceiling": 100.0, "burst": 300.0, "path": (Leg(20.0, 2280.0),)}
    pace.change(lambda search, reading: replace(search, begun_at=reading.now - 20, since=reading.now, **stay))
    pace.report_refusal(use(pace, 20)[-1], 1.0)
    found = pace.read().search
    assert found is not None
    assert found.ceiling * SPRINT > 100
    assert found.rate == 100


def test_slots_are_counted_and_those_given_out_during_a_change_count_for_the_next(make_pace: MakePace) -> None:
    pace, other = make_pace(rate=100), make_pace(rate=100)
    for _ in range(3):
        pace.wait()
    assert pace.read().slots == 3

    def change(search: Search, _: Reading) -> Search:
        other.wait()
        return replace(search, drop=0.5)

    pace.change(change)
    assert pace.read().slots == 1


def test_a_fleet_that_is_let_nothing_through_asks_more_and_more_rarely(make_pace: MakePace) -> None:
    pace = make_pace(rate=100)

    def end_hold(closed_for: float = 0.0) -> None:
        """As if the hold ended now, and it had been closed for so many seconds more."""

        def change(search: Search, reading: Reading) -> Search:
            closed_since = search.closed_since - closed_for
            return replace(search, begun_at=reading.now, since=reading.now, closed_since=closed_since)

        pace.change(change)
        pace.lift()

    pace.report_refusal(use(pace, 20)[-1], 1.0)
    end_hold()
    pace.report_refusal(pace.wait(), 1.0)
    assert rates(pace) == [2]
    end_hold(closed_for=50.0)
    pace.report_refusal(pace.wait(), 1.0)
    assert 11 < pace.read_hold_left() < 14
    assert pace.read().held_why == "PingOne refuses every request, so it is asked more and more rarely"


def test_a_redis_that_forgets_while_few_ask_goes_on_at_the_rate_from_before(
    make_pace: MakePace, client: redis.Redis
) -> None:
    pace = make_pace(rate=100)
    pace.wait()
    pace.change(lambda search, reading: replace(search, rate=2.0, closed_since=reading.now, open_rate=100.0))
    client.flushall()
    assert pace.wait().rate == pytest.approx(100, rel=0.01)


def test_slots_that_were_given_out_before_a_refusal_tell_nothing_of_the_new_rate(make_pace: MakePace) -> None:
    """Threads wait for slots beyond a short hold: they are of the rate that was refused."""
    pace = make_pace(rate=10, furthest=100, ahead=1e6, sleep=lambda _: None)
    slots = [pace.wait() for _ in range(15)]
    pace.report_answer(slots[0])
    pace.report_refusal(slots[1], 0.1)
    found = pace.read().search
    assert found is not None
    assert found.rate < 10
    assert found.begun_at == pytest.approx(slots[-1].at / 1e6 + 0.1, abs=0.01)
    pace.report_refusal(slots[-1], 0.1)
    assert rates(pace) == [found.rate]


def test_a_slot_that_is_given_back_is_the_next_one_and_redis_is_not_asked(
    make_pace: MakePace, client: redis.Redis
) -> None:
    now = [1000.0]
    pace = make_pace(**SLOW, clock=lambda: now[0])
    slot = pace.wait()
    before = next_at(client)
    for _ in range(1000):
        pace.give_back(slot)
        assert pace.wait() == slot
    assert next_at(client) == before
    pace.give_back(slot)
    now[0] += USABLE_FOR
    assert pace.wait() == slot


def test_a_slot_that_is_given_back_late_is_lost(make_pace: MakePace, client: redis.Redis) -> None:
    now, waits = [1000.0], list[float]()
    pace = make_pace(**SLOW, clock=lambda: now[0], sleep=waits.append)
    slot = pace.wait()
    # However often it was taken and given back meanwhile: it counts from when it was due.
    for _ in range(2):
        pace.give_back(slot)
        now[0] += USABLE_FOR * 0.6
        taken = pace.wait()
    assert taken.at > slot.at
    assert waits == [pytest.approx(INTERVAL, abs=5)]


def test_a_redis_that_takes_no_scripts_is_told_of_once_a_minute(own_valkey: ValkeyServer) -> None:
    now = [1000.0]
    url = own_valkey.let_in("limited", "~* &* +@all -@scripting")
    with redis.Redis.from_url(url) as limited, capture_logs() as logs:
        paces = [Pace(limited, "made-up-license", 1.0, clock=lambda: now[0])]
        for _ in range(3):
            for pace in paces * 5:
                with pytest.raises(PaceOutOfReach):
                    pace.wait()
            now[0] += 40
    told = [line for line in logs if line["event"] == "pace_out_of_reach"]
    assert len(told) == 2
    assert "permission" in told[0]["error"]
    assert "oathbulk doctor" in told[0]["cure"]
