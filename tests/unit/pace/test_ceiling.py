"""The search for the limit against limits in virtual time; more of them: tests/benchmarks/pace_matrix.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleets.paced_fleet import PacedFleet, Searching
from support.fleets.virtual_limits import (
    Bucket,
    Closed,
    Count,
    Limit,
    Shared,
    SlidingCount,
    Stalling,
    changing,
)

from worker.pace import ceiling
from worker.pace.climbs import PROBING_CLIMB
from worker.pace.periods import KNOCKS, LONGEST_KNOCK_WAIT
from worker.pace.refusals import LONG_HOLD
from worker.pace.search import (
    FIRST_CLIMB,
    PART_OF_CEILING,
    PROBE_AFTER,
    Search,
    fix_rate,
    free_rate,
    hold_rate,
    restart_counting,
    resume_below_ceiling,
    set_share,
)
from worker.pace.stays import SPRINT


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


@pytest.mark.parametrize("asked", [5, 30])
def test_where_a_refusal_is_dear_two_of_them_must_do(asked: float) -> None:
    fleet = meet(Bucket(120, 20), retry_after=asked).run(until=150)
    assert fleet.used(0, 150) > 0.98 * (150 - 2 * asked - 6) / 150
    assert len(fleet.refusals) < 10


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("rate", [50, 200])
def test_a_count_that_begins_anew_each_second_is_not_taken_for_a_bucket(rate: float, phase: float) -> None:
    fleet = meet(Count(rate, 1.0, phase)).run(until=150)
    assert fleet.used(30, 150) > 0.95
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
    assert fleet.used(60, 260) > 0.95
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


def test_refusals_by_chance_do_not_talk_the_fleet_down_for_ever() -> None:
    """A server that stands still now and then takes at once what came meanwhile, and refuses some of it: at more than
    125 a second, whatever the limit is."""
    fleet = meet(Stalling(Bucket(200, 10), every=10, length=0.08)).run(until=1500)
    assert fleet.used(100, 1500) > 0.6


def test_what_another_client_leaves_is_used() -> None:
    fleet = meet(Shared(Bucket(200, 100), changing(0.0, {50: 100, 100: 0.0}))).run(until=200)
    assert fleet.used(60, 100) > 0.85
    assert fleet.used(170, 200) > 0.9


def test_what_a_fleet_cannot_use_is_not_reached_for() -> None:
    fleet = meet(Bucket(1000), capacity=120).run(until=60)
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
    fleet = meet(Bucket(200), resume_below_ceiling(200.0, 1.0, now=0.0)).run(until=39)
    assert fleet.used(0, 39) > 0.98
    assert fleet.refusals == []


@pytest.mark.parametrize("limit", [150, 190])
def test_a_ceiling_that_is_remembered_and_too_high_is_mended(limit: float) -> None:
    fleet = meet(Bucket(limit, 20), resume_below_ceiling(200.0, 1.0, now=0.0)).run(until=150)
    assert fleet.used(30, 150) > 0.9


def test_a_climb_grows_by_its_speed_and_waits_for_an_answer() -> None:
    search = Search(100.0, climb=0.07)
    assert ceiling.learn_from_answers(search, slots=9, last=0.05, now=0.06, highest=500, next_slot=0.09) is search
    grown = ceiling.learn_from_answers(search, slots=20, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert grown.rate == pytest.approx(100 * (1 + 0.07 * 0.2), rel=0.001)
    assert (grown.since, grown.sent) == (0.2, 20)


def test_a_rate_at_which_nobody_sends_does_not_climb() -> None:
    search = Search(100.0, climb=0.07)
    unused = ceiling.learn_from_answers(search, slots=10, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert unused == replace(search, begun_at=0.2, since=0.2)


def test_the_first_climb_is_slower_where_answers_are_slow() -> None:
    def climbed(latency: float) -> float:
        now = 0.2 + latency
        slots = round(30 * now)
        search = ceiling.learn_from_answers(Search(30.0), slots, last=0.2, now=now, highest=500, next_slot=now)
        return (search.rate / 30 - 1) / now

    assert climbed(0.01) > 0.75
    assert climbed(0.2) == pytest.approx(0.25, rel=0.1)
    assert climbed(1.0) == pytest.approx(0.12, rel=0.1)


def test_a_refusal_of_a_slot_from_before_the_last_one_changes_no_rate() -> None:
    search = Search(100.0, climb=0.07, begun_at=10.0, since=10.0, refused_at=8.0, held=2.0)
    later = ceiling.learn_from_refusal(search, 150.0, slot=9.0, count=0, resumes_at=11.0)
    assert later == replace(search, begun_at=11.0, since=11.0, refused_at=9.0, probe_at=1.0)
    assert ceiling.learn_from_refusal(later, 150.0, slot=8.5, count=0, resumes_at=11.0) is later


def staying(**changes: Any) -> Search:
    """A stay below 200 a second, which forgives 100, for ten seconds."""
    stay = hold_rate(restart_counting(Search(199.0, ceiling=200.0, burst=100.0), now=10.0, held=1.0), PROBE_AFTER)
    return replace(stay, since=20.0, sent=1990.0, refused_at=9.0, **changes)


def refuse(search: Search, slot: float, rate: float = 199.0) -> Search:
    return ceiling.learn_from_refusal(search, rate, slot, count=5, resumes_at=slot + 1.06)


def test_a_stay_that_is_refused_goes_down_by_what_the_refusal_tells() -> None:
    # 1,990 in 10 s, of which 100 were forgiven.
    assert refuse(staying(), 20.0).ceiling == pytest.approx(189, rel=0.01)


def test_a_stay_that_is_refused_late_goes_down_a_little() -> None:
    late = refuse(replace(staying(), since=200.0, sent=199.0 * 190), 200.0)
    assert 0.99 < late.ceiling / 200 < 0.998


def test_a_stay_that_is_refused_soon_is_of_a_limit_that_fell_and_looks_for_a_rise_soon() -> None:
    fallen = refuse(replace(staying(), since=10.5, sent=0.5 * 199), 10.9)
    assert fallen.ceiling == pytest.approx(100, rel=0.02)
    assert fallen.refusals == ()
    assert fallen.probe_after < PROBE_AFTER


def test_what_a_hold_has_given_to_a_bucket_is_spent_in_a_sprint() -> None:
    sprinting = refuse(staying(), 20.0)
    assert sprinting.rate == pytest.approx(SPRINT * sprinting.ceiling)
    begun_at = sprinting.begun_at
    end = sprinting.sprint_until
    assert (end - begun_at) * (SPRINT - PART_OF_CEILING) == pytest.approx(0.75 * 100 / sprinting.ceiling, rel=0.01)
    ended = ceiling.learn_from_answers(
        replace(sprinting, since=end - 0.2), 50, last=end, now=end, highest=500, next_slot=end
    )
    assert (ended.rate, ended.sprint_until) == (ended.rate_below_ceiling, 0)


def test_a_climb_that_finds_nothing_new_goes_back_and_waits_longer() -> None:
    fleet = meet(Bucket(200, 20)).run(until=150)
    found = search_of(fleet)
    assert found.ceiling == pytest.approx(200, rel=0.01)
    assert found.probe_after > 1.5 * PROBE_AFTER


def test_a_stay_climbs_again_when_it_is_time() -> None:
    search = staying()
    until = search.probe_at
    due = ceiling.learn_from_answers(search, 199 * 31, last=until, now=until, highest=500, next_slot=until)
    assert (due.climb, due.rate) == (PROBING_CLIMB, search.rate)
    at_most = ceiling.learn_from_answers(search, 199 * 31, last=until, now=until, highest=199, next_slot=until)
    assert at_most.climb == 0


def knock(search: Search, slot: float) -> Search:
    return ceiling.learn_from_refusal(search, search.rate, slot, count=0, resumes_at=slot + 1.0)


def test_where_the_first_request_after_a_hold_is_refused_few_ask() -> None:
    search = replace(staying(), since=10.0, sent=0.0)
    closed = knock(search, 10.0)
    assert (closed.rate, closed.closed_since, closed.open_rate) == (KNOCKS, 9.0, 199.0)
    waits = []
    for _ in range(40):
        slot = closed.begun_at
        closed = knock(closed, slot)
        waits.append(closed.begun_at - slot)
    assert waits == pytest.approx(sorted(waits))
    assert waits[0] == 1.0
    assert waits[-1] == pytest.approx(LONGEST_KNOCK_WAIT)
    assert closed.knock_at == pytest.approx(closed.begun_at)


def test_what_was_out_of_order_goes_on_as_before() -> None:
    closed = knock(replace(staying(), since=10.0, sent=0.0), 10.0)
    slot = closed.begun_at
    opened = ceiling.learn_from_answers(closed, 1, last=slot, now=slot + 0.06, highest=500, next_slot=slot + 0.5)
    assert (opened.rate, opened.ceiling, opened.closed_since) == (199.0, 200.0, 0.0)
    again = knock(opened, opened.begun_at)
    assert again.open_rate == 199.0 / 2


def test_a_count_of_many_seconds_is_told_by_how_long_it_was_closed() -> None:
    """1,200 requests in ten seconds, and 50 s until it opened."""
    search = Search(200.0, begun_at=0.0, since=10.0, sent=1200.0)
    refused = ceiling.learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=11.0)
    closed = replace(knock(refused, 11.0), refused_at=59.0, begun_at=60.0, since=60.0)
    opened = ceiling.learn_from_answers(closed, 1, last=61.0, now=61.06, highest=500, next_slot=61.1)
    assert opened.ceiling == pytest.approx(20, rel=0.01)
    assert opened.period == pytest.approx(60, abs=1)


def test_holds_that_end_when_a_count_begins_anew_tell_it_too() -> None:
    search = Search(200.0, begun_at=0.0, since=10.0, sent=1200.0)
    refused = ceiling.learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=30.0)
    again = replace(refused, since=60.0, sent=1200.0)
    found = ceiling.learn_from_refusal(again, again.rate, slot=60.0, count=5, resumes_at=90.5)
    assert found.ceiling == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("kind", ["sprint", "closed"])
def test_what_is_done_for_a_moment_does_not_outlive_a_redis_that_forgets(kind: str) -> None:
    search = replace(staying(), rate=2.0, closed_since=9.0, open_rate=199.0)
    if kind == "sprint":
        search = replace(staying(), rate=220.0, sprint_until=30.0)
    assert search.lasting_rate == pytest.approx(199.0)


def test_a_fleet_that_had_nothing_to_do_begins_a_span_anew() -> None:
    search = replace(staying(), rate=220.0, sprint_until=30.0)
    idle = ceiling.learn_from_answers(search, 3, last=22.0, now=22.06, highest=500, next_slot=22.1)
    assert (idle.rate, idle.sprint_until, idle.held) == (pytest.approx(199.0), 0.0, LONG_HOLD)


@settings(deadline=None, max_examples=20)
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
