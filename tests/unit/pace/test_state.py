"""The state in Redis: one that cannot be true is replaced by a new one; and one for each rate group of a license."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.paces import Paces
from worker.pace.rate_groups import HIGHEST_RATES, START_RATES, RateGroup, SlotTooFar, choose_rates
from worker.pace.search import Search
from worker.pace.slots import Pace
from worker.pace.token_bucket import Leg

KEY = "oathbulk:pace-3:made-up-license"
WHY = "PingOne answered 503 and asks for 60 s"
HOUR = 3600 * 1_000_000
TIMES = ("next_at", "held_until", "counted_since", "look_from")
NUMBERS = (*TIMES, "interval", "last", "version", "answers", "lifted", "slots")
FOUND = Search(42.0, climb=0.0, ceiling=43.0, probe_after=300.0, probe_at=10**10)


@pytest.fixture
def pace(make_pace: Callable[..., Pace]) -> Pace:
    """One that has written FOUND to Redis, as if the search had ended there."""
    pace = make_pace()
    pace.change(lambda search, _: FOUND)
    pace.wait()
    return pace


def now(client: redis.Redis) -> int:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return seconds * 1_000_000 + microseconds


def wait_in_vain(pace: Pace) -> float:
    with pytest.raises(SlotTooFar) as caught:
        pace.wait()
    return caught.value.wait


def assert_whole(pace: Pace) -> None:
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


def test_times_further_ahead_than_anybody_can_wait_are_of_a_wrong_clock(pace: Pace, client: redis.Redis) -> None:
    for field in TIMES:
        client.hset(KEY, field, now(client) + HOUR)
        assert_whole(pace)
        # A dispatcher that only reads sees that too.
        client.hset(KEY, field, now(client) + HOUR)
        assert pace.read_hold_left() == 0
        assert client.exists(KEY) == 0, field
        assert_whole(pace)


def test_times_as_far_ahead_as_may_be_stay(make_pace: Callable[..., Pace], client: redis.Redis) -> None:
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


@pytest.mark.parametrize("field", ["counted_since", "look_from"])
def test_what_is_missing_is_begun_anew(pace: Pace, client: redis.Redis, field: str) -> None:
    client.hdel(KEY, field)
    assert_whole(pace)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("rate", 0.0), ("rate", -5.0), ("climb", 1e-9)],
        *[("path", value) for value in ("soon", "1,2", "1,nan,0", "1,2,0;;3", ",", "-1,2,0", "0,2,0", "1,0,1")],
        ("path", "1,2,0,0"),
    ],
)
def test_a_search_or_a_path_that_is_none_is_begun_anew(
    pace: Pace, client: redis.Redis, field: str, value: float | str
) -> None:
    client.hset(KEY, field, value)
    pace.change(lambda search, _: replace(search, drop=0.0))
    assert_whole(pace)


def test_the_path_comes_back_as_it_was(pace: Pace) -> None:
    path = (Leg(0.5, 12.0), Leg(1.25, 40.0, is_refused=True), Leg(2.06, 0.0))
    pace.change(lambda search, _: replace(FOUND, path=path))
    search = pace.read().search
    assert search is not None
    assert search.path == path


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
    pace: Pace, make_pace: Callable[..., Pace], client: redis.Redis
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


class Memory:
    """Remembers this search and this share of each license, and how often it was asked for the search."""

    def __init__(self, search: Search | None = None, share: float = 1.0) -> None:
        self.search, self.share, self.asked = search, share, 0

    def recall_search(self, license: str, now: float) -> Search | None:
        self.asked += 1
        return self.search

    def recall_share(self, license: str, rate: float, now: float) -> Search | None:
        return Search(rate, share=self.share) if self.share < 1 else None


@pytest.fixture
def make_paces(client: redis.Redis) -> Callable[..., Paces]:
    """Makes the paces of a process."""
    nobody: Any = {"on_alone": lambda _: None, "on_lifted": lambda _: None}
    return lambda memory=None: Paces(client, memory or Memory(), Settings(), **nobody)


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
        b"oathbulk:pace-3-of-configuration:made-up",
        b"oathbulk:pace-3-of-directory:made-up",
        b"oathbulk:pace-3-of-inventory:made-up",
        b"oathbulk:pace-3:made-up",
    ]


def test_a_refusal_in_one_group_leaves_the_others_as_they_are(make_paces: Callable[..., Paces]) -> None:
    paces = make_paces()
    mfa, inventory = paces.of(environment()), paces.of(environment(), RateGroup.INVENTORY)
    mfa.wait()
    inventory.report_refusal(inventory.wait(), 60.0, "PingOne answered 429 and asks for 60 s")
    assert inventory.read_hold_left() > 50
    assert mfa.read_hold_left() == 0
    assert mfa.wait().rate == pytest.approx(30, rel=0.01)


def test_environments_of_one_license_share_a_pace_in_every_group(make_paces: Callable[..., Paces]) -> None:
    paces = make_paces()
    for group in RateGroup:
        assert paces.of(environment(name="one"), group) is paces.of(environment(name="two"), group)
        assert paces.of(environment(license="other"), group) is not paces.of(environment(), group)


def test_the_database_remembers_the_limit_of_activations_alone_and_a_share_for_every_group(
    make_paces: Callable[..., Paces],
) -> None:
    memory = Memory(Search(77.0, climb=0.0), share=0.5)
    paces = make_paces(memory)
    assert paces.of(environment()).wait().rate == pytest.approx(77, rel=0.01)
    pace = paces.of(environment(), RateGroup.INVENTORY)
    pace.wait()
    search = pace.read().search
    assert search is not None
    assert (search.share, search.rate) == (0.5, pytest.approx(START_RATES[RateGroup.INVENTORY], rel=0.01))
    assert memory.asked == 1


@pytest.mark.parametrize("group", RateGroup)
@pytest.mark.parametrize(("begins_at", "most"), [(1.0, 2.0), (30.0, 500.0)])
def test_no_group_goes_beyond_what_a_person_permits_or_the_vendor_publishes(
    group: RateGroup, begins_at: float, most: float
) -> None:
    rate, highest = choose_rates(group, begins_at, most)
    assert rate <= highest == min(most, HIGHEST_RATES.get(group, math.inf))
