from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleets.searches import make_stay

from worker.pace import ceiling
from worker.pace.climbs import PROBING_CLIMB
from worker.pace.refusals import LONG_HOLD
from worker.pace.search import PART_OF_CEILING, PROBE_AFTER, Search
from worker.pace.stays import SPRINT, compute_waste


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
