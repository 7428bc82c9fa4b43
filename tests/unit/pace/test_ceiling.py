from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleets.virtual_fleet import Closed, Limit, Rate, Stalling, VirtualFleet, Window, bucket

from worker.pace import ceiling
from worker.pace.ceiling import NARROWING_CLIMB, PROBING_CLIMB
from worker.pace.search import (
    FIRST_CLIMB,
    PART_OF_CEILING,
    PROBE_AFTER,
    Search,
    fix_rate,
    free_rate,
    restart_counting,
    resume_below_ceiling,
    set_share,
)
from worker.pace.stays import PROBE_AFTER_FALL


def steady(rate: float) -> Rate:
    return lambda now: rate


@pytest.mark.parametrize(
    ("rate", "limit"),
    [
        *((rate, partial(bucket, rate, burst)) for rate in (50, 200, 500) for burst in (10, 50)),
        *((rate, partial(Window, rate, phase)) for rate in (50, 200) for phase in (0.3, 0.8)),
    ],
)
@pytest.mark.parametrize("ahead", [0, 30], ids=["", "many threads wait with a slot"])
def test_a_limit_that_nobody_told_is_used_within_a_minute(rate: float, limit: Callable[[], Limit], ahead: int) -> None:
    fleet = VirtualFleet(limit(), ahead=ahead).run(until=260)
    assert fleet.used(steady(rate), 60, 260) > 0.95
    assert fleet.used(steady(rate), 0, 260) > 0.93
    assert fleet.refused_share < 0.005


@pytest.mark.parametrize(("rate", "ahead"), [(35, 30), (60, 0)])
def test_over_a_long_run_hardly_anything_is_left_unused(rate: float, ahead: int) -> None:
    fleet = VirtualFleet(bucket(rate), ahead=ahead).run(until=3600)
    assert fleet.used(steady(rate), 60, 3600) > 0.985
    assert len(fleet.refusals) < 30


def test_a_stay_that_is_too_low_is_mended_by_its_first_look() -> None:
    # A climb of 2 % a second met the limit of 200 where it should, and was taken for one of 194.
    search = Search(192.0, climb=0.0, ceiling=194.0, refused_rate=208.9, refused_climb=0.02, probe_at=PROBE_AFTER)
    fleet = VirtualFleet(bucket(200), search=search).run(until=400)
    assert fleet.used(steady(200), 140, 400) > 0.985


def test_what_a_wide_burst_lets_through_is_not_taken_for_a_higher_limit() -> None:
    fleet = VirtualFleet(bucket(35, burst=20)).run(until=1800)
    assert fleet.used(steady(35), 60, 1800) > 0.985
    assert len(fleet.refusals) < 30


@pytest.mark.parametrize("latency", [0.05, 0.2, 1.0])
def test_slow_answers_delay_the_search_and_spoil_nothing(latency: float) -> None:
    fleet = VirtualFleet(bucket(200), latency=latency).run(until=260)
    assert fleet.used(steady(200), 60, 260) > 0.95
    assert fleet.refused_share < 0.005


@pytest.mark.parametrize(
    ("before", "change_at", "after", "found_by", "share"),
    [(200, 60, 80, 90, 0.9), (100, 30, 300, 170, 0.93)],
    ids=["it falls", "it rises"],
)
def test_a_limit_that_changes_is_found_again(
    before: float, change_at: float, after: float, found_by: float, share: float
) -> None:
    fleet = VirtualFleet(bucket(before, rate_changes={change_at: after})).run(until=found_by + 70)
    assert fleet.used(steady(after), found_by, found_by + 70) > share
    assert fleet.refused_share < 0.005


def test_a_service_that_lets_nothing_through_teaches_nothing() -> None:
    fleet = VirtualFleet(bucket(200)).run(until=60)
    rate = fleet.search.rate
    fleet.limit = Closed()
    fleet.run(until=100)
    assert not any(is_let for at, is_let in fleet.answers if at > 61)
    fleet.limit = bucket(200)
    began = fleet.now
    fleet.run(until=began + 60)
    assert fleet.used(steady(200), began + 5, began + 60) > 0.93
    assert fleet.search.rate > 0.9 * rate


def test_refusals_by_chance_do_not_talk_the_fleet_down_for_ever() -> None:
    """A server that stands still now and then takes at once what came meanwhile, and refuses some of it at any rate."""
    fleet = VirtualFleet(Stalling(bucket(200), every=10, length=0.08)).run(until=1500)
    assert fleet.used(steady(200), 100, 1500) > 0.75


def test_what_a_fleet_cannot_use_is_not_reached_for() -> None:
    fleet = VirtualFleet(bucket(1000), capacity=120).run(until=60)
    assert fleet.search.rate < 2 * 120
    assert fleet.refusals == []


def test_no_rate_is_above_the_highest() -> None:
    fleet = VirtualFleet(bucket(1000), highest=150).run(until=30)
    assert fleet.search.rate == 150
    assert fleet.used(steady(150), 5, 30) > 0.99


def test_a_highest_rate_that_was_lowered_counts_at_once() -> None:
    fleet = VirtualFleet(bucket(1000), highest=150).run(until=30)
    fleet.highest = 100
    fleet.run(until=35)
    assert fleet.search.rate == 100


def test_a_share_is_kept_to_once_the_ceiling_is_known() -> None:
    search = set_share(Search(30.0), 0.6, now=0.0)
    fleet = VirtualFleet(bucket(200), search).run(until=400)
    assert 0.57 < fleet.used(steady(200), 60, 400) < 0.61
    assert not any(at > 60 for at, _ in fleet.refusals)


def test_a_share_comes_back_after_others_had_the_license_for_a_while() -> None:
    """Others leave us 90 of 200 requests for a minute: we make room, and come back to our 120."""

    def rate(now: float) -> float:
        return 90 if 60 < now < 120 else 200

    fleet = VirtualFleet(bucket(200, rate_changes={60: 90, 120: 200}), set_share(Search(30.0), 0.6, now=0.0)).run(
        until=500
    )
    assert 0.7 < fleet.used(rate, 70, 120) < 0.95
    assert 0.55 < fleet.used(rate, 400, 500) < 0.62


def test_a_share_that_changes_counts_at_once() -> None:
    fleet = VirtualFleet(bucket(200)).run(until=60)
    fleet.search = set_share(fleet.search, 0.5, fleet.now)
    assert fleet.search.rate == pytest.approx(0.5 * PART_OF_CEILING * fleet.search.ceiling)
    assert set_share(fleet.search, 1.0, fleet.now).rate == pytest.approx(PART_OF_CEILING * fleet.search.ceiling)


def test_a_rate_that_a_person_set_does_not_move() -> None:
    fleet = VirtualFleet(bucket(200), fix_rate(Search(30.0), 250.0, now=0.0)).run(until=30)
    assert fleet.search.rate == 250
    found = free_rate(fleet.search, fleet.now)
    assert (found.rate, found.climb, found.is_fixed) == (250, FIRST_CLIMB, False)


def test_a_ceiling_that_is_remembered_is_where_the_next_run_begins() -> None:
    search = resume_below_ceiling(ceiling=200.0, share=1.0, now=5.0)
    assert (search.rate, search.climb) == (200 * PART_OF_CEILING, 0)
    fleet = VirtualFleet(bucket(200), resume_below_ceiling(200.0, 1.0, now=0.0)).run(until=50)
    assert fleet.used(steady(200), 0, 50) > 0.98
    assert fleet.refusals == []


def test_a_climb_grows_by_its_speed_and_waits_for_answers() -> None:
    search = Search(100.0, climb=NARROWING_CLIMB)
    assert ceiling.learn_from_answers(search, count=5, last=0.05, now=0.05, highest=500, next_slot=0.0) is search
    grown = ceiling.learn_from_answers(search, count=20, last=0.2, now=0.2, highest=500, next_slot=0.0)
    assert grown.rate == pytest.approx(100 * (1 + NARROWING_CLIMB * 0.2), rel=0.001)
    # Hardly a slot was used: nothing is learnt from that, and the time does not count.
    unused = ceiling.learn_from_answers(search, count=3, last=0.2, now=0.2, highest=500, next_slot=0.0)
    assert unused == replace(search, since=0.2, changed_at=0.2)


def test_a_refusal_of_a_slot_from_before_the_last_one_changes_nothing() -> None:
    search = Search(100.0, climb=NARROWING_CLIMB, begun_at=10.0, since=10.0)
    assert ceiling.learn_from_refusal(search, 150.0, slot=9.9, count=50, resumes_at=12.0) is search


def test_a_climb_that_was_slower_than_meant_has_passed_the_limit_by_less() -> None:
    """Where answers are slow, each step of the steepest climb takes seconds."""

    def found(seconds: float) -> float:
        search = restart_counting(Search(30.0), now=0.0)
        for number in range(1, 4):
            now = number * seconds
            search = ceiling.learn_from_answers(search, count=10**6, last=now, now=now, highest=5000, next_slot=0.0)
        return (
            ceiling.learn_from_refusal(search, search.rate, slot=now, count=10**6, resumes_at=now + 1).rate
            / search.rate
        )

    assert found(0.1) == pytest.approx(0.55, rel=0.02)
    assert found(2.0) == pytest.approx(0.82, rel=0.02)


def test_slots_that_are_given_out_already_tell_nothing_of_a_changed_rate() -> None:
    """Threads wait for such slots; counted for the new, higher rate, they would say that it is not used."""
    search = restart_counting(Search(30.0), now=0.0)
    climbed = ceiling.learn_from_answers(search, count=10, last=0.2, now=0.2, highest=500, next_slot=1.3)
    assert climbed.rate > search.rate
    assert climbed.since == 1.3
    assert ceiling.learn_from_answers(climbed, count=10, last=1.2, now=1.2, highest=500, next_slot=1.5) is climbed


def test_a_climb_that_is_hardly_above_the_limit_is_the_last() -> None:
    started = restart_counting(Search(480.0, climb=0.01), now=0.0)
    climbing = replace(started, rate=510.0, refused_rate=530.0, refused_climb=0.04, since=5.0)
    found = ceiling.learn_from_refusal(climbing, 510.0, slot=6.06, count=100, resumes_at=7.1)
    assert found.ceiling == pytest.approx(490, rel=0.002)
    assert (found.climb, found.rate) == (0, found.ceiling * PART_OF_CEILING)


@pytest.mark.parametrize("longer", [0.0, 0.1], ids=["as soon", "hardly later, as a count that starts anew does it"])
def test_a_stay_that_is_refused_soon_again_goes_down_faster(longer: float) -> None:
    rates = [Search(200.0, climb=0.0, ceiling=201.0)]
    for number in range(4):
        begun_at = 10.0 * number
        search = replace(rates[-1], begun_at=begun_at, since=begun_at + 1)
        slot = begun_at + 2 + number * longer
        rates.append(ceiling.learn_from_refusal(search, search.rate, slot, count=300, resumes_at=slot + 1))
    steps = [1 - after.rate / before.rate for before, after in itertools.pairwise(rates)]
    assert steps == pytest.approx([0.03, 0.06, 0.12, 0.24])


def test_a_refusal_of_the_first_slot_of_a_stay_is_no_fault() -> None:
    """Another slot was answered before it, so it tells of the rate although it lasted for no time."""
    search = restart_counting(Search(200.0, climb=0.0, ceiling=201.0), now=10.0)
    refused = ceiling.learn_from_refusal(search, search.rate, slot=10.0, count=5, resumes_at=11.0)
    assert 180 < refused.rate < 200
    again = ceiling.learn_from_refusal(refused, refused.rate, slot=11.0, count=5, resumes_at=12.0)
    assert 0 < again.rate < refused.rate


def test_how_long_an_earlier_stay_had_lasted_says_nothing_of_this_one() -> None:
    """Between the two stays a climb found another ceiling."""
    earlier = restart_counting(Search(200.0, climb=0.0, ceiling=201.0, lasted=40.0), now=10.0)
    assert ceiling.learn_from_refusal(earlier, 200.0, slot=11.5, count=50, resumes_at=13.0).rate == pytest.approx(
        0.96 * 200
    )


def test_a_rate_that_fell_by_much_climbs_again_soon() -> None:
    search = restart_counting(Search(200.0, climb=0.0, ceiling=201.0, probe_at=500.0), now=10.0)
    soon = ceiling.learn_from_refusal(search, 200.0, slot=11.0, count=50, resumes_at=12.0)
    late = ceiling.learn_from_refusal(search, 200.0, slot=40.0, count=500, resumes_at=41.0)
    assert (soon.probe_at, late.probe_at) == (12.0 + PROBE_AFTER_FALL, 500)


def test_a_climb_that_finds_nothing_new_goes_back_and_waits_longer() -> None:
    known = Search(199.0, climb=0.0, ceiling=200.0)
    count, now = 200 * int(PROBE_AFTER), PROBE_AFTER
    climbing = ceiling.learn_from_answers(known, count=count, last=now, now=now, highest=500, next_slot=0.0)
    assert climbing.climb == PROBING_CLIMB
    climbing = replace(climbing, rate=206.0)
    refused = ceiling.learn_from_refusal(climbing, 206.0, slot=PROBE_AFTER + 3, count=500, resumes_at=PROBE_AFTER + 4)
    assert (refused.rate, refused.climb, refused.probe_after) == (refused.rate_below_ceiling, 0, 2 * PROBE_AFTER)
    assert 200 < refused.ceiling < 201


@settings(deadline=None, max_examples=20)
@given(
    rate=st.floats(2, 400),
    burst=st.integers(5, 100),
    latency=st.floats(0.001, 0.5),
    begins_at=st.floats(1, 1000),
)
def test_whatever_the_limit_it_is_found(rate: float, burst: float, latency: float, begins_at: float) -> None:
    fleet = VirtualFleet(bucket(rate, burst), Search(begins_at), latency=latency).run(until=200)
    assert fleet.used(steady(rate), 100, 200) > 0.8
    assert all(0 < lowered < 5000 for _, lowered in fleet.refusals)
