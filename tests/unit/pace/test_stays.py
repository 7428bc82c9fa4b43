from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleets.searches import make_stay

from worker.pace import ceiling
from worker.pace.climbs import PROBING_CLIMB
from worker.pace.estimates import Estimate
from worker.pace.refusals import LONG_HOLD
from worker.pace.search import LOWEST_RATE, PART_OF_CEILING, PROBE_AFTER, Search
from worker.pace.stays import LONGEST_PROBE_WAIT, SPRINT, compute_waste, settle, stay_below


def refuse(search: Search, slot: float, rate: float = 199.0) -> Search:
    return ceiling.learn_from_refusal(search, rate, slot, count=5, resumes_at=slot + 1.06)


def test_a_stay_that_is_refused_goes_down_by_what_the_refusal_tells() -> None:
    # 1,990 in 10 s, of which 100 were forgiven.
    assert refuse(make_stay(), 20.0).ceiling == pytest.approx(189, rel=0.01)


def test_a_stay_that_is_refused_late_goes_down_a_little() -> None:
    late = refuse(replace(make_stay(), since=200.0, sent=199.0 * 190), 200.0)
    assert 0.99 < late.ceiling / 200 < 0.998


def test_a_stay_that_is_refused_soon_is_of_a_limit_that_fell_and_looks_for_a_rise_soon() -> None:
    fallen = refuse(replace(make_stay(), since=10.5, sent=0.5 * 199), 10.9)
    assert fallen.ceiling == pytest.approx(100, rel=0.02)
    assert fallen.refusals == ()
    assert fallen.probe_after < PROBE_AFTER


@pytest.mark.parametrize("climb", [0.0, 0.05], ids=["while it stays", "while it climbs"])
def test_what_leaves_at_once_after_an_idle_moment_tells_little(climb: float) -> None:
    idle = replace(make_stay(climb=climb), held=LONG_HOLD, since=10.2, sent=0.2 * 199)
    assert 0.94 < refuse(idle, 10.5).ceiling / 200 < 0.96


def test_what_a_hold_has_given_to_a_bucket_is_spent_in_a_sprint() -> None:
    sprinting = refuse(make_stay(), 20.0)
    assert sprinting.rate == pytest.approx(SPRINT * sprinting.ceiling)
    assert sprinting.rate > 1.05 * sprinting.ceiling
    begun_at = sprinting.begun_at
    end = sprinting.sprint_until
    assert (end - begun_at) * (SPRINT - PART_OF_CEILING) == pytest.approx(0.75 * 100 / sprinting.ceiling, rel=0.01)
    ended = ceiling.learn_from_answers(
        replace(sprinting, since=end - 0.2), 50, last=end, now=end, highest=500, next_slot=end
    )
    assert (ended.rate, ended.sprint_until) == (ended.rate_below_ceiling, 0)


def test_a_stay_climbs_again_when_it_is_time() -> None:
    search = make_stay()
    until = search.probe_at
    due = ceiling.learn_from_answers(search, 199 * 31, last=until, now=until, highest=500, next_slot=until)
    assert (due.climb, due.rate) == (PROBING_CLIMB, search.rate)
    at_most = ceiling.learn_from_answers(search, 199 * 31, last=until, now=until, highest=199, next_slot=until)
    assert at_most.climb == 0


@pytest.mark.parametrize("kind", ["sprint", "closed"])
def test_what_is_done_for_a_moment_does_not_outlive_a_redis_that_forgets(kind: str) -> None:
    search = replace(make_stay(), rate=2.0, closed_since=9.0, open_rate=199.0)
    if kind == "sprint":
        search = replace(make_stay(), rate=220.0, sprint_until=30.0)
    assert search.lasting_rate == pytest.approx(199.0)


def test_a_fleet_that_had_nothing_to_do_begins_a_span_anew() -> None:
    search = replace(make_stay(), rate=220.0, sprint_until=30.0)
    idle = ceiling.learn_from_answers(search, 3, last=22.0, now=22.06, highest=500, next_slot=22.1)
    assert (idle.rate, idle.sprint_until, idle.held) == (pytest.approx(199.0), 0.0, LONG_HOLD)


def test_what_a_hold_gives_to_a_bucket_is_not_wasted() -> None:
    assert compute_waste(hold=5.0, burst=0.0) == 5.0
    assert compute_waste(hold=5.0, burst=1.0) == pytest.approx(5 - 0.75)
    assert compute_waste(hold=5.0, burst=60.0) == pytest.approx(5 * 0.25)


def settled(hold: float, search: Search | None = None, low: float = 95.0) -> Search:
    """A count of 100 a second, as two climbs have told it; nothing was sent for `hold` seconds after."""
    estimate = Estimate(limit=100.0, low=low, high=105.0, burst=0.0, is_count=False, disagreement=0.0)
    return settle(search or Search(120.0), hold, estimate)


def test_the_more_a_refusal_wastes_the_further_below_the_limit_the_rate_stays() -> None:
    assert settled(hold=2.0).ceiling == pytest.approx(99.9)
    assert settled(hold=8.0).ceiling == pytest.approx(99.6)


def test_where_holds_are_long_the_rate_stays_below_all_that_the_limit_may_be() -> None:
    assert settled(hold=20.0).ceiling == pytest.approx(95 * 0.99)


def test_a_climb_that_finds_nothing_is_followed_by_a_longer_wait_but_not_by_any_longer_one() -> None:
    known = replace(Search(120.0), ceiling=100.0, probe_after=60.0)
    assert settled(2.0, known).probe_after == 90.0
    assert settled(2.0, replace(known, probe_after=3000.0)).probe_after == LONGEST_PROBE_WAIT


def test_a_rate_that_stayed_falls_by_half_at_the_most() -> None:
    fallen = refuse(replace(make_stay(), since=10.01, sent=1.0), 11.0, rate=1.0)
    assert fallen.ceiling == pytest.approx(100)


def test_after_a_small_drop_the_rate_waits_a_while_before_it_climbs() -> None:
    due = replace(make_stay(), since=200.0, sent=199.0 * 190, probe_at=200.5)
    lowered = refuse(due, 200.0)
    assert lowered.probe_at == pytest.approx(lowered.begun_at + PROBE_AFTER / 4)


@pytest.mark.parametrize(("rate", "lowest"), [(200.0, LOWEST_RATE), (1.0, 1.0)])
def test_no_refusal_lowers_the_rate_below_the_lowest_or_what_a_person_began_with(rate: float, lowest: float) -> None:
    stay = stay_below(Search(rate), limit=0.1, burst=0.0, wait=30.0)
    assert stay.rate == stay.rate_below_ceiling == pytest.approx(lowest)
