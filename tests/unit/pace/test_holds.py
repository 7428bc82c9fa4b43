"""The state in Redis: one that cannot be true is replaced by a new one; one for each rate group of a license; and the
fleet's holds, through the paces of several processes and as one process knows them."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.license_paces import Paces
from worker.pace.redis_state import Reservation
from worker.pace.search import HIGHEST_RATES, START_RATES, Leg, RateGroup, Search, SlotTooFar, choose_rates
from worker.pace.slots import AHEAD, LONGEST_TRIP, RECENT, Holds, Pace, Reservations, Slot

KEY = "oathbulk::pace-4:made-up-license"
WHY, UNREACHABLE = "PingOne answered 503 and asks for 60 s", "PingOne cannot be reached"
HOUR = 3600 * 1_000_000
TIMES = ("next_at", "held_until", "counted_since", "look_from")
NUMBERS = (*TIMES, "interval", "last", "version", "answers", "lifted", "slots")
MakePace = Callable[..., Pace]

FOUND = Search(42.0, climb=0.0, ceiling=43.0, probe_after=300.0, probe_at=10**10)


@pytest.fixture
def pace(make_pace: MakePace) -> Pace:
    """One that has written FOUND to Redis, as if the search had ended there."""
    pace = make_pace()
    pace.change(lambda search, _: FOUND)
    pace.wait()
    return pace


def now(client: redis.Redis) -> int:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return seconds * 1_000_000 + microseconds


def wait_in_vain(pace: Pace) -> float:
    """For how long there is no slot."""
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    return caught.value.wait


def search_of(pace: Pace) -> Search:
    search = pace.read().search
    assert search is not None
    return search


def assert_whole(pace: Pace) -> None:
    """Assert that slots are given, that the search is the one that the process knew, and that its times are of now."""
    pace.wait()
    search, now = search_of(pace), pytest.approx(pace.read().now, abs=30)
    assert (search.rate, search.ceiling, search.climb) == (FOUND.rate, FOUND.ceiling, FOUND.climb)
    assert [search.begun_at, search.since, search.probe_at - 300] == [now] * 3
    pace.report_answer(pace.wait())
    pace.wait()


# The next slot of a clock that is ahead by less than the longest hold cannot be true either.
@pytest.mark.parametrize(("field", "ahead"), [*((field, HOUR) for field in TIMES), ("next_at", 20_000_000)])
def test_times_further_ahead_than_anybody_can_wait_are_of_a_wrong_clock(
    pace: Pace, client: redis.Redis, field: str, ahead: int
) -> None:
    client.hset(KEY, field, now(client) + ahead)
    assert_whole(pace)
    # A dispatcher that only reads sees that too.
    client.hset(KEY, field, now(client) + ahead)
    assert (pace.read_hold_left(), client.exists(KEY)) == (0, 0)
    assert_whole(pace)


def test_times_as_far_ahead_as_may_be_stay(make_pace: MakePace, client: redis.Redis) -> None:
    pace = make_pace(rate=0.1)
    pace.wait()
    # An interval of ten seconds after the furthest slot that there is.
    client.hset(KEY, "next_at", now(client) + 19_000_000)
    wait_in_vain(pace)
    pace.hold(120)
    before = client.hgetall(KEY)
    wait_in_vain(pace)
    assert client.hgetall(KEY) == before


@pytest.mark.parametrize("field", NUMBERS)
def test_what_is_no_number_is_begun_anew(pace: Pace, client: redis.Redis, field: str) -> None:
    for value in ("", "soon", "nan", "inf", "0x10", "1.5.2", "-"):
        client.hset(KEY, field, value)
        # Whatever a reservation makes of it, a tick of the dispatcher mends it.
        pace.read()
        assert_whole(pace)


@pytest.mark.parametrize("field", [*TIMES, "interval", "answers"])
def test_no_reservation_needs_a_tick_for_that(pace: Pace, client: redis.Redis, field: str) -> None:
    for value in ("soon", "nan"):
        pace.report_answer(pace.wait())
        client.hset(KEY, field, value)
        assert_whole(pace)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        # What is missing, as where another version wrote it, and what is no search or no path.
        *[(field, None) for field in ("counted_since", "look_from", "rate", "probe_after", "path")],
        *[("rate", 0.0), ("rate", -5.0), ("climb", 1e-9)],
        *[("path", value) for value in ("soon", "1,2", "1,nan,0", "1,2,0;;3", ",", "-1,2,0", "0,2,0", "1,0,1")],
        ("path", "1,2,0,0"),
    ],
)
def test_a_search_or_a_path_that_is_none_is_begun_anew(
    pace: Pace, client: redis.Redis, field: str, value: float | str | None
) -> None:
    if value is None:
        client.hdel(KEY, field)
    else:
        client.hset(KEY, field, value)
    pace.change(lambda search, _: replace(search, refused_at=0.0))
    assert_whole(pace)


def test_the_path_comes_back_as_it_was(pace: Pace) -> None:
    path = (Leg(0.5, 12.0), Leg(1.25, 40.0, is_refused=True), Leg(2.06, 0.0))
    pace.change(lambda search, _: replace(FOUND, path=path))
    assert search_of(pace).path == path


@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        (Pace.wait, ()),
        (Pace.read, ()),
        (Pace.read_hold_left, ()),
        (Pace.hold, (0.001,)),
        (Pace.report_undelivered, (0.001, "PingOne cannot be reached")),
    ],
)
def test_a_key_of_another_type_is_begun_anew(pace: Pace, client: redis.Redis, ask: Any, arguments: Any) -> None:
    client.set(KEY, "not a hash")
    ask(pace, *arguments)
    assert_whole(pace)


def test_a_hold_that_may_be_true_outlives_a_state_that_cannot(pace: Pace, client: redis.Redis) -> None:
    pace.hold(60, WHY)
    client.hset(KEY, "next_at", now(client) + HOUR)
    reading = pace.read()
    assert (reading.held_why, 59 < reading.hold_left <= 60) == (WHY, True)
    assert 60_000 < client.pttl(KEY) <= 120_000  # type: ignore[operator]
    wait_in_vain(pace)


def test_a_hold_that_cannot_be_true_is_told_again_by_who_asked_for_it(
    pace: Pace, make_pace: MakePace, client: redis.Redis
) -> None:
    pace.hold(60)
    client.hset(KEY, "held_until", now(client) + HOUR)
    assert make_pace().read_hold_left() == 0
    assert 58 < wait_in_vain(pace) <= 60
    # And a new hold is not as long as that one.
    client.hset(KEY, "held_until", now(client) + HOUR)
    make_pace().hold(60)
    assert 58 < make_pace().read_hold_left() <= 60


# One pace for each rate group of a license.


def remember(search: Search | None = None, share: float = 1.0) -> Any:
    """A memory of this search, and for the other groups of this share, of each license."""
    return Mock(
        recall_search=lambda _, group, rate, now: search if group is RateGroup.MFA else Search(rate, share=share)
    )


@pytest.fixture
def make_paces(client: redis.Redis) -> Callable[..., Paces]:
    """Makes the paces of a process."""
    nobody: Any = {"on_alone": lambda _: None, "on_lifted": lambda _: None}
    return lambda memory=None: Paces(client, memory or remember(), Settings(), **nobody)


def environment(**fields: object) -> Environment:
    return Environment.model_validate(
        {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s", "license": "made-up"}
        | fields
    )


def test_each_group_begins_at_its_own_rate_and_has_a_key_of_its_own(
    make_paces: Callable[..., Paces], client: redis.Redis
) -> None:
    paces = make_paces()
    rates = {group: paces.of(environment(rate=40), group).wait().rate for group in RateGroup}
    assert rates == pytest.approx({RateGroup.MFA: 40.0, **START_RATES}, rel=0.01)
    assert sorted(client.keys()) == [
        b"oathbulk::pace-4-of-configuration:made-up",
        b"oathbulk::pace-4-of-directory:made-up",
        b"oathbulk::pace-4-of-inventory:made-up",
        b"oathbulk::pace-4:made-up",
    ]


def test_environments_of_one_license_share_a_pace_in_every_group(make_paces: Callable[..., Paces]) -> None:
    paces = make_paces()
    for group in RateGroup:
        assert paces.of(environment(name="one"), group) is paces.of(environment(name="two"), group)
        assert paces.of(environment(license="other"), group) is not paces.of(environment(), group)


def test_the_database_remembers_the_limit_of_activations_alone_and_a_share_for_every_group(
    make_paces: Callable[..., Paces],
) -> None:
    memory = remember(Search(77.0, climb=0.0), share=0.5)
    paces = make_paces(memory)
    assert paces.of(environment()).wait().rate == pytest.approx(77, rel=0.01)
    pace = paces.of(environment(), RateGroup.INVENTORY)
    pace.wait()
    search = search_of(pace)
    assert (search.share, search.rate) == (0.5, pytest.approx(START_RATES[RateGroup.INVENTORY], rel=0.01))


@pytest.mark.parametrize("group", RateGroup)
@pytest.mark.parametrize(("begins_at", "most"), [(1.0, 2.0), (30.0, 500.0)])
def test_no_group_goes_beyond_what_a_person_permits_or_the_vendor_publishes(
    group: RateGroup, begins_at: float, most: float
) -> None:
    rate, highest = choose_rates(group, begins_at, most)
    assert rate <= highest == min(most, HIGHEST_RATES.get(group, math.inf))


def deliver(pace: Pace) -> None:
    """Let a request be answered; the next reservation tells Redis."""
    pace.report_answer(pace.wait())
    pace.wait()


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


def test_a_hold_that_comes_after_one_was_lifted_stands_and_can_be_lifted_in_a_wiped_redis(
    make_pace: MakePace, client: redis.Redis
) -> None:
    pace, dispatcher = make_pace(), make_pace()
    pace.hold(60, WHY)
    dispatcher.lift()
    pace.hold(60, WHY)
    client.hdel(KEY, "held_until")
    wait_in_vain(pace)
    assert dispatcher.read_hold_left() > 50
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


def test_who_fails_alone_is_told_so_and_nobody_holds(make_pace: MakePace) -> None:
    sentences: list[str] = []
    healthy, broken = make_pace(), make_pace(on_alone=sentences.append)
    broken.wait()
    deliver(healthy)
    broken.report_undelivered(60, UNREACHABLE)
    assert sentences == ["PingOne cannot be reached, but other processes deliver"]
    for pace in (healthy, broken):
        pace.wait()
        assert pace.read_hold_left() == 0


@pytest.mark.parametrize(
    ("who", "ago"), [(None, 0), ("who fails", 0), ("another", 11_000_000)], ids=["nobody", "who fails", "long ago"]
)
def test_the_fleet_holds_where_nobody_else_delivers(
    make_pace: MakePace, client: redis.Redis, who: str | None, ago: int
) -> None:
    sentences: list[str] = []
    pace, other = make_pace(on_alone=sentences.append), make_pace()
    other.wait()
    if who:
        deliver(pace if who == "who fails" else other)
        client.hincrby(KEY, "delivered_at", -ago)
    pace.report_undelivered(60, UNREACHABLE)
    assert (50 < other.read_hold_left() <= 60, other.read().held_why, sentences) == (True, UNREACHABLE, [])


# What one process knows by itself, of a state in Redis that answers as a test says.

SLOT = Slot(5_000_000, 30.0, 1000.0)


class Known:
    """The holds of a process and the slots that it keeps, and all that it hears of Redis, to which a trip takes so many
    seconds."""

    def __init__(self, trip: float = 0.0) -> None:
        self.now, self.held_until, self.trip = 1000.0, 0, trip
        # How far away the slots might be that it asked for.
        self.asked = list[float]()
        self.read, self.tell_lifting = Mock(side_effect=lambda: self.held_until), Mock()
        state: Any = SimpleNamespace(
            hold=lambda *_: 17,
            reserve=self.reserve,
            read_held_until=self.read,
        )
        self.holds = Holds(state, 120.0, lambda: self.now, on_alone=Mock(), on_lifted=self.tell_lifting)
        self.holds.note_lifting(17)
        self.pace = Mock()
        self.reservations = Reservations(self.holds, self.pace, AHEAD, Mock(), lambda: self.now)

    def reserve(self, furthest: float, most: int, *_: object) -> Reservation:
        """Give a slot where one may be away for a while; then the rate is to be reviewed."""
        self.now += self.trip
        self.asked.append(furthest)
        reserved = int(most > 0 and furthest > 0)
        return Reservation(self.held_until, 1000, 0, reserved, 0, reserved=reserved, slot=0, wait=0)


def test_a_hold_is_remembered_extended_never_shortened_and_ends_by_itself() -> None:
    known, left = Known(), list[float]()
    for seconds, passed in ((5, 0.0), (2, 0.0), (7, 3.0), (0, 5.0)):
        known.holds.hold(seconds, WHY)
        known.now += passed
        left.append(known.holds.fleet_left)
    assert left == [5, 5, 4, 0]


@pytest.mark.parametrize("trip", [0.0, 0.3])
def test_what_was_heard_just_now_decides_and_later_it_is_asked_for(trip: float) -> None:
    known = Known(trip)
    known.held_until = 500
    known.holds.reserve(0.0, 0, 0, 0)
    # What is asked for now is no newer, once it is here.
    known.now += 0.9 * max(RECENT, trip)
    assert (known.holds.is_held_past(499), known.holds.is_held_past(500), known.read.call_count) == (True, False, 0)
    known.now += 0.2 * max(RECENT, trip)
    assert (known.holds.is_held_past(499), known.read.call_count) == (True, 1)


@pytest.mark.parametrize("trip", [0.0, 0.3, 5.0])
def test_where_redis_is_far_away_the_slots_that_fall_due_during_a_trip_are_asked_for_too(trip: float) -> None:
    known = Known(trip)
    for _ in range(2):
        known.reservations.reserve(60.0)
    assert known.asked == pytest.approx([AHEAD, AHEAD + min(trip, LONGEST_TRIP)])


def test_nobody_waits_for_a_slot_until_the_rate_was_reviewed() -> None:
    known = Known()

    def review() -> None:
        with ThreadPoolExecutor(1) as threads:
            known.pace.review = Mock()
            assert threads.submit(known.reservations.reserve, 0.5).result()

    known.pace.review = review
    known.reservations.reserve(0.5)
    assert len(known.asked) == 2


def test_what_a_person_lifts_is_forgotten_once() -> None:
    known = Known()
    known.holds.hold(5, "")
    # Heard of before, a wiped Redis that knows of none, and another time.
    assert [(known.holds.note_lifting(at), known.holds.fleet_left) for at in (17, 0, 16)] == [
        (False, 5),
        (False, 5),
        (True, 0),
    ]
    assert known.tell_lifting.call_count == 2


@pytest.mark.parametrize(
    ("begins", "hold", "heard_until", "passed", "is_good"),
    [
        (1000.0, 0.0, 0, AHEAD - 0.01, True),
        (1000.0, 0.0, 0, AHEAD + 0.01, False),
        # A hold of its own, one that it heard of, and one that was over before.
        (1000.0, 0.02, 0, 0.05, False),
        (1000.0, 0.0, SLOT.at + 1, 0.05, False),
        (990.0, 5.0, SLOT.at - 1, 10.0, True),
    ],
)
def test_a_slot_that_is_kept_is_taken_once_where_it_is_not_old_and_no_hold_came(
    begins: float, hold: float, heard_until: int, passed: float, is_good: bool
) -> None:
    known = Known()
    known.now, known.held_until = begins, heard_until
    known.reservations.reserved.append(SLOT)
    known.holds.hold(hold, "")
    known.holds.reserve(0.0, 0, 0, 0)
    known.now += passed
    if is_good:
        assert known.reservations.reserve(0.0) == (SLOT, 0.0)
    # Redis gives none.
    with pytest.raises(SlotTooFar):
        known.reservations.reserve(-1.0)
