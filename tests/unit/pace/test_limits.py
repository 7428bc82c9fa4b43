"""The search for the limit against limits in virtual time; more of them: tests/benchmarks/pace_matrix.py."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleets.paced_fleet import PacedFleet
from support.fleets.policies import Searching
from support.fleets.virtual_limits import (
    Bucket,
    Chance,
    Closed,
    Count,
    Limit,
    Shared,
    SlidingCount,
    Stalling,
    changing,
    steady,
)

from worker.pace.search import (
    FIRST_CLIMB,
    LOWEST_RATE,
    PART_OF_CEILING,
    PROBE_AFTER,
    Search,
    fix_rate,
    free_rate,
    learn_from_refusal,
    resume_below_ceiling,
    set_share,
)
from worker.pace.token_bucket import Leg, count_refusals


def meet(limit: Limit, search: Search | None = None, highest: float = 1000.0, **options: Any) -> PacedFleet:
    """A fleet whose two processes have slots a tenth of a second ahead."""
    policy = Searching(search or Search(30.0), highest)
    return PacedFleet(limit, policy, **{"processes": 2, "ahead": 0.1, "retry_after": 1.0} | options)


def search_of(fleet: PacedFleet) -> Search:
    assert isinstance(fleet.policy, Searching)
    return fleet.policy.search


def change(fleet: PacedFleet, search: Search) -> None:
    assert isinstance(fleet.policy, Searching)
    fleet.policy.search = search


@pytest.mark.parametrize("asked", [1, 2])
@pytest.mark.parametrize("seconds", [0.05, 0.5, 1, 5], ids=lambda seconds: f"burst of {seconds} s")
@pytest.mark.parametrize("rate", [50, 200])
def test_a_bucket_of_any_burst_is_used_nearly_whole(rate: float, seconds: float, asked: float) -> None:
    fleet = meet(Bucket(rate, max(seconds * rate, 4)), retry_after=asked).run(until=150)
    assert fleet.used(15, 135) > 0.95
    assert fleet.used(0, 150) > 0.92
    assert fleet.refused_share < 0.008


@pytest.mark.parametrize("seconds", [0.5, 1, 3], ids=lambda seconds: f"burst of {seconds} s")
@pytest.mark.parametrize("rate", [50, 120, 300])
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


@pytest.mark.parametrize(("asked", "until", "climbs"), [(1, 25, 3), (30, 90, 2)])
def test_a_third_climb_comes_only_where_it_is_worth_its_refusal(asked: float, until: float, climbs: int) -> None:
    found = search_of(meet(Bucket(120, 60), retry_after=asked).run(until=until))
    assert found.ceiling == pytest.approx(120, rel=0.03)
    assert count_refusals(found.path) == climbs


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("rate", [50, 200])
def test_a_count_that_begins_anew_each_second_is_not_taken_for_a_bucket(rate: float, phase: float) -> None:
    fleet = meet(Count(rate, 1.0, phase)).run(until=150)
    assert fleet.used(30, 150) > 0.93
    assert fleet.refused_share < 0.004


@pytest.mark.parametrize(("window", "asked"), [(10, 1), (10, None), (60, 1), (60, 5), (60, None)])
def test_a_count_of_many_seconds_is_used_whole_without_storms_of_refusals(window: float, asked: float | None) -> None:
    fleet = meet(Count(120, window, 0.6), retry_after=asked).run(until=300)
    assert fleet.used(0, 300) > 0.93
    assert fleet.refused_share < 0.01


@pytest.mark.parametrize("asked", [1, None], ids=["1 s", "until there is room"])
def test_a_sliding_count_of_a_minute_is_used_too(asked: float | None) -> None:
    fleet = meet(SlidingCount(120, 60), retry_after=asked).run(until=300)
    assert fleet.used(0, 300) > 0.93
    assert fleet.refused_share < 0.01


@pytest.mark.parametrize(("rate", "burst"), [(35, 10), (35, 35), (120, 10)])
def test_over_a_long_run_hardly_anything_is_left_unused(rate: float, burst: float) -> None:
    fleet = meet(Bucket(rate, burst)).run(until=1800)
    assert fleet.used(0, 1800) > 0.98
    assert fleet.refused_share < 0.001


@pytest.mark.parametrize("latency", [0.02, 0.2, 1.0])
def test_slow_answers_delay_the_search_and_spoil_nothing(latency: float) -> None:
    fleet = meet(Bucket(200, 20), latency=latency).run(until=260)
    assert fleet.used(60, 260) > 0.94
    assert fleet.refused_share < 0.01


@pytest.mark.parametrize("ahead", [0.0, 0.5], ids=["none", "half a second"])
def test_slots_that_are_given_out_ahead_do_not_mislead(ahead: float) -> None:
    fleet = meet(Bucket(120, 12), ahead=ahead, processes=4, latency=0.2, refusal_latency=0.01).run(until=150)
    assert fleet.used(15, 135) > 0.96


def test_a_limit_that_falls_is_kept_to_within_seconds() -> None:
    fleet = meet(Bucket(changing(200, {60: 80}), 20)).run(until=120)
    assert sum(fleet.refused[70:120]) < 20
    assert fleet.used(75, 120) > 0.9


@pytest.mark.parametrize(("factor", "share"), [(1.5, 0.93), (3.0, 0.9)])
def test_a_limit_that_rises_is_found_within_a_minute(factor: float, share: float) -> None:
    fleet = meet(Bucket(changing(100, {50: 100 * factor}), 20)).run(until=200)
    assert fleet.used(115, 200) > share


def test_a_limit_that_falls_to_almost_nothing_is_found_again() -> None:
    fleet = meet(Bucket(changing(200, {60: 5}), 4)).run(until=300)
    assert fleet.used(200, 300) > 0.5
    assert sum(fleet.refused[200:300]) < 50


def test_a_service_that_lets_nothing_through_teaches_nothing() -> None:
    fleet = meet(Closed(Bucket(200, 10), since=60, until=100)).run(until=60)
    rate = search_of(fleet).rate
    fleet.run(until=100)
    assert sum(fleet.let[61:100]) == 0
    assert sum(fleet.refused[62:100]) < 40
    fleet.run(until=160)
    assert fleet.used(112, 160) > 0.93
    assert search_of(fleet).rate > 0.95 * rate


@pytest.mark.parametrize("part", [0.05, 0.5])
def test_after_refusals_by_chance_the_fleet_is_back_within_minutes(part: float) -> None:
    fleet = meet(Chance(Bucket(100, 10), part, since=60, until=360)).run(until=360)
    assert LOWEST_RATE * 0.99 <= search_of(fleet).rate < 20
    fleet.run(until=600)
    assert fleet.used(540, 600) > 0.9


def test_a_server_that_stands_still_now_and_then_does_not_talk_the_fleet_down_for_ever() -> None:
    """A server that stands still now and then takes at once what came meanwhile, and refuses some of it: at more than
    125 a second, whatever the limit is."""
    fleet = meet(Stalling(Bucket(200, 10), every=10, length=0.08)).run(until=1500)
    assert fleet.used(100, 1500) > 0.6


def test_what_another_client_leaves_is_used() -> None:
    fleet = meet(Shared(Bucket(200, 100), changing(0.0, {50: 100, 100: 0.0}))).run(until=200)
    assert fleet.used(60, 100) > 0.85
    assert fleet.used(170, 200) > 0.9


def test_what_a_fleet_cannot_use_is_not_reached_for() -> None:
    fleet = meet(Bucket(1000), capacity=steady(120)).run(until=60)
    assert search_of(fleet).rate < 2 * 120
    assert fleet.refusals == []


def test_no_rate_is_above_the_highest() -> None:
    fleet = meet(Bucket(1000), highest=150).run(until=30)
    assert search_of(fleet).rate == 150


def test_a_highest_rate_that_was_lowered_counts_at_once() -> None:
    fleet = meet(Bucket(1000), highest=150).run(until=30)
    assert isinstance(fleet.policy, Searching)
    fleet.policy.highest = 100
    fleet.run(until=35)
    assert search_of(fleet).rate == 100


def test_a_share_is_kept_to_once_the_ceiling_is_known() -> None:
    fleet = meet(Bucket(200), set_share(Search(30.0), 0.6, now=0.0)).run(until=400)
    assert 0.57 < fleet.used(60, 400) < 0.61
    assert not any(fleet.refused[60:400])


def test_a_share_comes_back_after_others_had_the_license_for_a_while() -> None:
    """Others leave us 90 of 200 requests for a minute: we make room, and come back to our 120."""
    limit = Bucket(changing(200, {60: 90, 120: 200}))
    fleet = meet(limit, set_share(Search(30.0), 0.6, now=0.0)).run(until=500)
    assert 0.7 < fleet.used(70, 120) < 0.95
    assert 0.55 < fleet.used(400, 500) < 0.62


def test_a_share_that_changes_counts_at_once() -> None:
    fleet = meet(Bucket(200)).run(until=60)
    change(fleet, set_share(search_of(fleet), 0.5, fleet.now))
    search = search_of(fleet)
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
    held = (*climbed, Leg(2.0, 0.0))
    search = Search(100.0, climb=0.07, begun_at=10.0, since=10.0, refused_at=8.0, path=held)
    later = learn_from_refusal(search, 150.0, slot=9.0, count=0, resumes_at=12.5)
    path = (*climbed, Leg(3.5, 0.0))
    assert later == replace(search, begun_at=12.5, since=12.5, refused_at=9.0, probe_at=2.5, path=path)
    assert learn_from_refusal(later, 150.0, slot=8.5, count=0, resumes_at=11.0) is later


def test_a_climb_that_finds_nothing_new_goes_back_and_waits_longer() -> None:
    fleet = meet(Bucket(200, 20)).run(until=150)
    found = search_of(fleet)
    assert found.ceiling == pytest.approx(200, rel=0.01)
    assert found.probe_after > 1.5 * PROBE_AFTER


@settings(max_examples=20)
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
