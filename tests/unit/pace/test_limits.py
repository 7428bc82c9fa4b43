"""The search for the limit against limits in virtual time; more of them: tests/benchmarks/pace_matrix.py. And whatever
happens: the search stays one that Redis can keep."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fleets.paced_fleet import (
    Bucket,
    Chance,
    Closed,
    Count,
    Limit,
    PacedFleet,
    Searching,
    Shared,
    SlidingCount,
    Stalling,
    changing,
    steady,
)

from worker.pace.redis_state import parse_search, write_fields
from worker.pace.search import (
    FIRST_CLIMB,
    LOWEST_RATE,
    PART_OF_CEILING,
    PROBE_AFTER,
    Leg,
    Search,
    fix_rate,
    free_rate,
    learn_from_answers,
    learn_from_refusal,
    resume_below_ceiling,
    set_share,
)


def meet(limit: Limit, search: Search | None = None, highest: float = 1000.0, **options: Any) -> PacedFleet:
    """A fleet whose two processes have slots a tenth of a second ahead."""
    policy = Searching(search or Search(30.0), highest)
    return PacedFleet(limit, policy, **{"processes": 2, "ahead": 0.1, "retry_after": 1.0} | options)


def search_of(fleet: PacedFleet) -> Search:
    return fleet.policy.search


# A limit and how it is met; until when, in seconds; between which seconds at least which part of what it permits is
# used; and which part of all requests is refused at the most.
MET: dict[str, tuple[Limit, dict[str, Any], float, dict[tuple[float, float], float], float]] = {
    **{
        f"a bucket of {rate} a second with a burst of {seconds} s that asks for {asked} s": (
            Bucket(rate, max(seconds * rate, 4)),
            {"retry_after": asked},
            150,
            {(15, 135): 0.95, (0, 150): 0.92},
            0.008,
        )
        for rate, seconds, asked in [(50, 0.05, 2), (50, 1, 1), (50, 5, 2), (200, 0.05, 1), (200, 0.5, 2), (200, 5, 1)]
    },
    **{
        f"a count of {rate} a second that begins anew each second, at {phase}, is not taken for a bucket": (
            Count(rate, 1.0, phase),
            {},
            150,
            {(30, 150): 0.93},
            0.004,
        )
        for rate, phase in [(50, 0.0), (200, 0.3), (50, 0.8)]
    },
    **{
        f"a count of {window} s that asks for {asked} is used for the most part without storms of refusals": (
            Count(120, window, 0.6),
            {"retry_after": asked},
            300,
            {(0, 300): 0.65},
            0.02,
        )
        for window, asked in [(10, 1), (10, None), (60, 1), (60, 5), (60, None)]
    },
    **{
        f"a sliding count of a minute that asks for {asked} is used too": (
            SlidingCount(120, 60),
            {"retry_after": asked},
            300,
            {(0, 300): 0.65},
            0.02,
        )
        for asked in (1, None)
    },
    **{
        f"over a long run hardly anything of {rate} a second with a burst of {burst} is left unused": (
            Bucket(rate, burst),
            {},
            1800,
            {(0, 1800): 0.96},
            0.002,
        )
        for rate, burst in [(35, 10), (120, 10)]
    },
    **{
        f"answers that take {latency} s delay the search and spoil nothing": (
            Bucket(200, 20),
            {"latency": latency},
            260,
            {(60, 260): 0.92},
            0.01,
        )
        for latency in (0.02, 0.2, 1.0)
    },
    **{
        f"slots that are given out {ahead} s ahead do not mislead": (
            Bucket(120, 12),
            {"ahead": ahead, "processes": 4, "latency": 0.2, "refusal_latency": 0.01},
            150,
            {(15, 135): 0.96},
            1,
        )
        for ahead in (0.0, 0.5)
    },
    "a limit that rises by half is found within a minute": (
        Bucket(changing(100, {50: 150}), 20),
        {},
        200,
        {(115, 200): 0.93},
        1,
    ),
    "a limit that rises to three times as much is found within a minute": (
        Bucket(changing(100, {50: 300}), 20),
        {},
        200,
        {(115, 200): 0.9},
        1,
    ),
    "what another client leaves is used": (
        Shared(Bucket(200, 100), changing(0.0, {50: 100, 100: 0.0})),
        {},
        200,
        {(60, 100): 0.85, (170, 200): 0.9},
        1,
    ),
}


@pytest.mark.parametrize("name", MET)
def test_a_limit_is_used_nearly_whole(name: str) -> None:
    limit, options, until, used, refused = MET[name]
    fleet = meet(limit, **options).run(until=until)
    assert {between: fleet.used(*between) > least for between, least in used.items()} == dict.fromkeys(used, True)
    assert fleet.refused_share < refused


@pytest.mark.parametrize(("rate", "seconds"), [(50, 0.5), (50, 3), (120, 1), (300, 3)])
def test_a_fleet_that_starts_slowly_and_stands_still_for_moments_forgets_nothing(rate: float, seconds: float) -> None:
    start = changing(math.inf, {0: 9, 1: 36, 2: 69, 3: math.inf})
    capacity = lambda now: min(start(now), rate / 2 if now % 7 > 6.5 else math.inf)  # noqa: E731
    fleet = meet(Bucket(rate, seconds * rate), retry_after=2, capacity=capacity, late=0.05).run(until=70)
    assert fleet.used(0, 70) > 0.86
    assert search_of(fleet).ceiling == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("asked", [5, 30])
def test_where_a_refusal_is_dear_two_of_them_must_do(asked: float) -> None:
    fleet = meet(Bucket(120, 20), retry_after=asked).run(until=150)
    assert fleet.used(0, 150) > 0.98 * (150 - 2 * asked - 6) / 150
    assert len(fleet.refusals) < 10


@pytest.mark.parametrize(
    ("fallen_to", "burst", "since", "until", "part", "refused"), [(80, 20, 75, 120, 0.8, 20), (5, 4, 200, 300, 0.5, 50)]
)
def test_a_limit_that_falls_is_kept_to_within_seconds_and_one_of_almost_nothing_is_found_again(
    fallen_to: float, burst: float, since: int, until: int, part: float, refused: int
) -> None:
    fleet = meet(Bucket(changing(200, {60: fallen_to}), burst)).run(until=until)
    assert sum(fleet.refused[since - 5 : until]) < refused
    assert fleet.used(since, until) > part


def test_a_service_that_lets_nothing_through_teaches_nothing() -> None:
    fleet = meet(Closed(Bucket(200, 10), since=60, until=100)).run(until=60)
    rate = search_of(fleet).rate
    fleet.run(until=160)
    assert sum(fleet.let[61:100]) == 0
    assert sum(fleet.refused[62:100]) < 40
    assert fleet.used(112, 160) > 0.93
    assert search_of(fleet).rate > 0.95 * rate


@pytest.mark.parametrize("part", [0.05, 0.5])
def test_after_refusals_by_chance_the_fleet_is_back_within_minutes(part: float) -> None:
    fleet = meet(Chance(Bucket(100, 10), part, since=60, until=360)).run(until=360)
    assert LOWEST_RATE * 0.99 <= search_of(fleet).rate < 20
    assert fleet.run(until=600).used(540, 600) > 0.7


def test_a_server_that_stands_still_now_and_then_does_not_talk_the_fleet_down_for_ever() -> None:
    """A server that stands still now and then takes at once what came meanwhile, and refuses some of it: at more than
    125 a second, whatever the limit is."""
    fleet = meet(Stalling(Bucket(200, 10), every=10, length=0.08)).run(until=1500)
    assert fleet.used(100, 1500) > 0.6


def test_what_a_fleet_cannot_use_is_not_reached_for() -> None:
    fleet = meet(Bucket(1000), capacity=steady(120)).run(until=60)
    assert search_of(fleet).rate < 2 * 120
    assert fleet.refusals == []


def test_no_rate_is_above_the_highest_which_counts_at_once_when_it_is_lowered() -> None:
    fleet = meet(Bucket(1000), highest=150).run(until=30)
    assert search_of(fleet).rate == 150
    fleet.policy.highest = 100
    assert search_of(fleet.run(until=35)).rate == 100


# What a person sets.


def test_a_share_is_kept_to_once_the_ceiling_is_known() -> None:
    fleet = meet(Bucket(200), set_share(Search(30.0), 0.6, now=0.0)).run(until=400)
    assert 0.57 < fleet.used(60, 400) < 0.61
    assert not any(fleet.refused[60:400])


def test_a_share_comes_back_after_others_had_the_license_for_a_while() -> None:
    """Others leave us 90 of 200 requests for a minute: we make room, and come back to our 120."""
    limit = Bucket(changing(200, {60: 90, 120: 200}))
    fleet = meet(limit, set_share(Search(30.0), 0.6, now=0.0)).run(until=500)
    assert 0.6 < fleet.used(70, 120) < 0.95
    assert 0.55 < fleet.used(400, 500) < 0.62


def test_a_share_that_changes_counts_at_once() -> None:
    fleet = meet(Bucket(200)).run(until=60)
    search = set_share(search_of(fleet), 0.5, fleet.now)
    assert search.rate == pytest.approx(0.5 * PART_OF_CEILING * search.ceiling)
    assert set_share(search, 1.0, fleet.now).rate == pytest.approx(PART_OF_CEILING * search.ceiling)


def test_a_rate_that_a_person_set_does_not_move() -> None:
    fleet = meet(Bucket(200), fix_rate(Search(30.0), 250.0, now=0.0)).run(until=30)
    assert search_of(fleet).rate == 250
    found = free_rate(search_of(fleet), fleet.now)
    assert (found.rate, found.climb, found.is_fixed) == (250, FIRST_CLIMB, False)


def test_a_ceiling_that_is_remembered_is_where_the_next_run_begins() -> None:
    search = resume_below_ceiling(ceiling=200.0, share=1.0, now=5.0)
    assert (search.rate, search.climb) == (200 * PART_OF_CEILING, 0)
    fleet = meet(Bucket(200), resume_below_ceiling(200.0, 1.0, now=0.0)).run(until=29)
    assert fleet.used(0, 29) > 0.98
    assert fleet.refusals == []


@pytest.mark.parametrize("limit", [150, 190])
def test_a_ceiling_that_is_remembered_and_too_high_is_mended(limit: float) -> None:
    fleet = meet(Bucket(limit, 20), resume_below_ceiling(200.0, 1.0, now=0.0)).run(until=150)
    assert fleet.used(30, 150) > 0.9


def test_a_refusal_of_a_slot_from_before_the_last_one_changes_no_rate() -> None:
    climbed = (Leg(1.0, 90.0, is_refused=True),)
    search = Search(100.0, climb=0.07, begun_at=10.0, since=10.0, refused_at=8.5, path=(*climbed, Leg(2.0, 0.0)))
    later = learn_from_refusal(search, 150.0, slot=9.0, count=0, resumes_at=12.5)
    path = (*climbed, Leg(4.5, 0.0))
    assert later == replace(search, begun_at=12.5, since=12.5, refused_at=9.0, path=path)
    assert learn_from_refusal(later, 150.0, slot=8.5, count=0, resumes_at=11.0) is later


def test_a_climb_that_finds_nothing_new_goes_back_and_waits_longer() -> None:
    found = search_of(meet(Bucket(200, 20)).run(until=150))
    assert found.ceiling == pytest.approx(200, rel=0.01)
    assert found.probe_after > 1.5 * PROBE_AFTER


@settings(max_examples=12)
@given(
    rate=st.floats(10, 400),
    burst=st.integers(5, 400),
    latency=st.floats(0.001, 0.5),
    begins_at=st.floats(1, 500),
)
def test_whatever_the_limit_it_is_found(rate: float, burst: float, latency: float, begins_at: float) -> None:
    fleet = meet(Bucket(rate, burst), Search(begins_at), latency=latency).run(until=200)
    assert fleet.used(100, 200) > 0.8
    assert all(0 < lowered < 1000 for _, lowered in fleet.refusals)


# Whatever happens, in whatever order and with whatever clock.

HIGHEST = 500.0
# Seconds between two events: hardly any, usual ones, hours in which nobody sends, and a clock that is set back.
SECONDS = st.one_of(
    st.floats(0.0, 2.0), st.floats(0.0, 90.0), st.sampled_from([-3600.0, -5.0, 600.0, 3600.0, 90_000.0])
)
ANSWER = st.tuples(st.just("answer"), SECONDS, st.integers(0, 60_000))
# With how long ago its slot was, and for how long the fleet holds.
REFUSAL = st.tuples(st.just("refusal"), SECONDS, st.floats(-1.0, 4000.0), st.floats(0.0, 4000.0), st.booleans())
PERSON = st.tuples(st.sampled_from(["share", "fix", "free"]), st.floats(0.01, 1.0))
EVENTS = st.lists(st.one_of(ANSWER, REFUSAL, REFUSAL, PERSON), max_size=40)


def follow(search: Search, event: tuple[Any, ...], now: float) -> tuple[Search, float]:
    match event:
        case ("answer", seconds, slots):
            now = max(now + seconds, 1.0)
            return learn_from_answers(search, slots, now, now + 0.05, HIGHEST, now + 0.1), now
        case ("refusal", seconds, ago, hold, is_first):
            now = max(now + seconds, 1.0)
            return learn_from_refusal(search, search.rate, now - ago, 0 if is_first else 5, now + hold), now
        case ("share", share):
            return set_share(search, share, now), now
        case ("fix", share):
            return fix_rate(search, share * HIGHEST, now), now
        case _:
            return free_rate(search, now), now


@given(st.floats(5.0, HIGHEST), EVENTS)
@example(50.0, [("answer", 1.0, 60), ("refusal", 600.0, 0.0, 1.0, False), *[("refusal", 2.0, 0.0, 1.0, False)] * 6])
@example(100.0, [*[("refusal", 0.5, 0.0, 1.0, False)] * 30])
@example(200.0, [("refusal", 10.0, 2500.0, 1.0, False), ("refusal", 10.0, 2500.0, 1.0, False)] * 3)
@example(200.0, [("refusal", 10.0, 0.0, 1.0, False), ("refusal", -3600.0, -1.0, 1.0, False)] * 3)
def test_the_search_can_be_kept_and_read(rate: float, events: list[tuple[Any, ...]]) -> None:
    search, now = Search(rate, begun_at=1000.0, since=1000.0), 1000.0
    for event in events:
        before = search
        search, now = follow(search, event, now)
        kept = {name: str(value) for name, value in write_fields(search).items()}
        assert parse_search(kept) is not None, (event, before, search)
        if search.is_fixed or search.is_shared or before.is_fixed:
            continue
        assert search.rate > 0.999 * min(LOWEST_RATE, before.rate)
        assert event[0] != "answer" or search.rate <= max(HIGHEST, before.rate)
