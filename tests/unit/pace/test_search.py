"""How the rate climbs, stays and gives way; over the whole of a job: test_limits.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleets.searches import HELD, make_stay

from worker.pace.search import (
    KNOCKS,
    LEAST_START,
    LONGEST_KNOCK_WAIT,
    LONGEST_PROBE_WAIT,
    LOWEST_RATE,
    PROBE_AFTER,
    PROBING_CLIMB,
    SECOND_CLIMB,
    SLOWEST_CLIMB,
    SPRINT,
    Search,
    compute_waste,
    learn_from_answers,
    learn_from_refusal,
    settle,
    stay_below,
)
from worker.pace.token_bucket import Estimate, Leg, Path, count_refusals


def test_a_climb_grows_by_its_speed_and_waits_for_an_answer() -> None:
    search = Search(100.0, climb=0.07)
    assert learn_from_answers(search, slots=9, last=0.05, now=0.06, highest=500, next_slot=0.09) is search
    grown = learn_from_answers(search, slots=20, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert grown.rate == pytest.approx(100 * (1 + 0.07 * 0.2), rel=0.001)
    assert (grown.since, grown.path) == (0.2, (Leg(0.2, 20.0),))


def test_a_rate_at_which_nobody_sends_does_not_climb() -> None:
    search = Search(100.0, climb=0.07)
    unused = learn_from_answers(search, slots=10, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert unused == replace(search, since=0.2, path=(Leg(0.2, 10.0),))


def test_the_first_climb_is_slower_where_answers_are_slow() -> None:
    def climbed(latency: float) -> float:
        now = 0.2 + latency
        slots = round(30 * now)
        search = learn_from_answers(Search(30.0), slots, last=0.2, now=now, highest=500, next_slot=now)
        return (search.rate / 30 - 1) / now

    assert climbed(0.01) > 0.75
    assert climbed(0.2) == pytest.approx(0.25, rel=0.1)
    assert climbed(1.0) == pytest.approx(0.12, rel=0.1)


def refuse(search: Search, slot: float, rate: float = 199.0) -> Search:
    return learn_from_refusal(search, rate, slot, count=5, resumes_at=slot + 1.06)


def test_the_second_climb_is_slow_and_begins_further_down() -> None:
    refused = refuse(Search(200.0, since=2.0, path=(Leg(1.0, 60.0), Leg(1.0, 150.0))), 2.0, 200.0)
    assert (refused.climb, refused.ceiling) == (SECOND_CLIMB, 0)
    assert LEAST_START * 200 <= refused.rate < 0.7 * 200


def test_a_climb_that_comes_further_than_expected_speeds_up() -> None:
    def grow(rate: float) -> float:
        search = make_stay(climb=0.05, expected=220.0)
        grown = learn_from_answers(replace(search, rate=rate), 50, last=20.2, now=20.21, highest=900, next_slot=20.2)
        return grown.rate / rate - 1

    assert grow(215.0) == pytest.approx(0.05 * 0.21, rel=0.01)
    assert grow(230.0) > 1.8 * grow(215.0)
    assert grow(245.0) > 1.1 * grow(230.0)


def test_at_the_highest_rate_nothing_is_known_of_the_limit_but_that_it_is_higher() -> None:
    search = make_stay(climb=0.05)
    highest = learn_from_answers(search, 50, last=20.2, now=20.21, highest=200, next_slot=20.2)
    assert (highest.rate, highest.climb, highest.ceiling) == (200, 0, 0)
    raised = replace(highest, probe_at=0.0)
    further = learn_from_answers(raised, 220, last=21.3, now=21.31, highest=500, next_slot=21.3)
    assert further.climb > 0


@pytest.mark.parametrize(("lasted", "climb"), [(10.0, 0.025), (600.0, SLOWEST_CLIMB)])
def test_after_a_slow_first_climb_the_second_is_slower_still_but_no_slower_than_any(
    lasted: float, climb: float
) -> None:
    refused = refuse(Search(100.0, climb=0.1, since=lasted, path=(Leg(lasted, 100 * lasted),)), lasted, 100.0)
    assert refused.climb == pytest.approx(climb)


def test_a_stay_that_is_refused_goes_down_by_what_the_refusal_tells() -> None:
    # 1,990 in 10 s, of which 100 were forgiven.
    assert refuse(make_stay(), 20.0).ceiling == pytest.approx(189, rel=0.01)


def test_a_stay_that_is_refused_late_goes_down_a_little() -> None:
    late = refuse(make_stay(190.0, 199.0 * 190), 200.0)
    assert 0.99 < late.ceiling / 200 < 0.998


def test_a_stay_that_is_refused_soon_is_of_a_limit_that_fell_and_looks_for_a_rise_soon() -> None:
    fallen = refuse(make_stay(0.5, 0.5 * 199), 10.9)
    assert fallen.ceiling == pytest.approx(100, rel=0.02)
    assert count_refusals(fallen.path) == 1
    assert fallen.probe_after < PROBE_AFTER


@pytest.mark.parametrize("climb", [0.0, 0.05], ids=["while it stays", "while it climbs"])
@pytest.mark.parametrize("path", [(Leg(0.2, 40.0),), (*HELD, Leg(0.1, 5.0), Leg(0.1, 20.0))], ids=["begins", "idle"])
def test_what_leaves_at_once_after_an_idle_moment_tells_little(path: Path, climb: float) -> None:
    idle = make_stay(climb=climb, since=10.2, path=path)
    assert 0.94 < refuse(idle, 10.5).ceiling / 200 < 0.96


def test_what_a_hold_has_given_to_a_bucket_is_spent_in_a_sprint() -> None:
    """The bucket of 100 was empty, and nothing was sent for a second: three quarters of it are spent."""
    sprinting = refuse(make_stay(), 20.0)
    assert sprinting.is_sprinting
    assert sprinting.rate == pytest.approx(SPRINT * sprinting.ceiling)
    assert sprinting.lasting_rate == sprinting.rate_below_ceiling
    slots = 0
    while sprinting.is_sprinting:
        due = sprinting.review_due_at
        slots += round(sprinting.rate * 0.1)
        sprinting = learn_from_answers(
            sprinting, round(sprinting.rate * 0.1), last=due, now=due, highest=500, next_slot=due
        )
    lasted = sprinting.since - sprinting.begun_at
    assert slots - sprinting.ceiling * lasted == pytest.approx(0.75 * 100, abs=5)
    assert sprinting.rate == sprinting.rate_below_ceiling


def test_what_an_idle_moment_has_given_to_a_bucket_is_spent_too() -> None:
    idle = learn_from_answers(make_stay(path=(Leg(9.0, 0.0),)), 5, last=21.0, now=21.0, highest=500, next_slot=21.0)
    assert idle.is_sprinting
    shared = replace(idle, rate=119.4, share=0.6)
    assert not learn_from_answers(shared, 60, last=22.0, now=22.0, highest=500, next_slot=22.0).is_sprinting


def test_a_stay_climbs_again_when_it_is_time() -> None:
    search = make_stay()
    until = search.probe_at
    due = learn_from_answers(search, 199 * 31, last=until, now=until, highest=500, next_slot=until)
    assert (due.climb, due.rate) == (PROBING_CLIMB, search.rate)
    at_most = learn_from_answers(search, 199 * 31, last=until, now=until, highest=199, next_slot=until)
    assert at_most.climb == 0


def test_what_is_done_for_a_moment_does_not_outlive_a_redis_that_forgets() -> None:
    assert make_stay(rate=2.0, closed_since=9.0, open_rate=199.0).lasting_rate == 199.0
    assert make_stay(rate=220.0).lasting_rate == pytest.approx(199.0)


def test_what_a_hold_gives_to_a_bucket_is_not_wasted() -> None:
    assert compute_waste(hold=5.0, burst=0.0) == 5.0
    assert compute_waste(hold=5.0, burst=1.0) == pytest.approx(5 - 0.75)
    assert compute_waste(hold=5.0, burst=60.0) == pytest.approx(5 * 0.25)


def settled(hold: float, search: Search | None = None, low: float = 95.0) -> Search:
    """A count of 100 a second, as two climbs have told it; nothing was sent for `hold` seconds after."""
    estimate = Estimate(limit=100.0, low=low, high=105.0, burst=0.0, is_count=False, contradiction=0.0)
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
    fallen = refuse(make_stay(0.1, 19.9), 10.3)
    assert fallen.ceiling == pytest.approx(100)


def test_after_a_small_drop_the_rate_waits_a_while_before_it_climbs() -> None:
    due = make_stay(190.0, 199.0 * 190, probe_at=200.5)
    lowered = refuse(due, 200.0)
    assert lowered.probe_at == pytest.approx(lowered.begun_at + PROBE_AFTER / 4)


@pytest.mark.parametrize(("rate", "lowest"), [(200.0, LOWEST_RATE), (1.0, 1.0)])
def test_no_refusal_lowers_the_rate_below_the_lowest_or_what_a_person_began_with(rate: float, lowest: float) -> None:
    stay = stay_below(Search(rate), limit=0.1, burst=0.0, wait=30.0)
    assert stay.rate == stay.rate_below_ceiling == pytest.approx(lowest)


def knock(search: Search, slot: float) -> Search:
    return learn_from_refusal(search, search.rate, slot, count=0, resumes_at=slot + 1.0)


def test_where_the_first_request_after_a_hold_is_refused_few_ask() -> None:
    closed = knock(make_stay(0.0), 10.0)
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
    """The limit was known before, and 1,990 in ten seconds and two are not one that counts over twelve."""
    closed = knock(make_stay(0.0, path=(Leg(10.0, 1990.0, is_refused=True), *HELD)), 10.0)
    slot = closed.begun_at
    opened = learn_from_answers(closed, 1, last=slot, now=slot + 0.06, highest=500, next_slot=slot + 0.5)
    assert (opened.rate, opened.ceiling, opened.closed_since) == (199.0, 200.0, 0.0)
    again = knock(opened, opened.begun_at)
    assert again.open_rate == 199.0 / 2


def test_a_count_of_many_seconds_is_told_by_how_long_it_was_closed() -> None:
    """1,200 requests in ten seconds, and 50 s until it opened."""
    search = Search(200.0, since=10.0, path=(Leg(10.0, 1200.0),))
    refused = learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=11.0)
    closed = replace(knock(refused, 11.0), refused_at=59.0, begun_at=60.0, since=60.0)
    opened = learn_from_answers(closed, 1, last=61.0, now=61.06, highest=500, next_slot=61.1)
    assert opened.ceiling == pytest.approx(20, rel=0.01)
    assert opened.period == pytest.approx(60, abs=1)


def test_holds_that_end_when_a_count_begins_anew_tell_it_too() -> None:
    search = Search(200.0, since=10.0, path=(Leg(10.0, 1200.0),))
    refused = learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=30.0)
    again = replace(refused, since=60.0, path=(*refused.path, Leg(30.0, 1200.0)))
    found = learn_from_refusal(again, again.rate, slot=60.0, count=5, resumes_at=90.5)
    assert found.ceiling == pytest.approx(20, rel=0.01)


def test_what_is_closed_for_longer_than_any_count_lasts_tells_of_no_count() -> None:
    search = Search(200.0, since=10.0, path=(Leg(10.0, 1200.0),))
    refused = learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=11.0)
    closed = replace(knock(refused, 11.0), refused_at=199.0, begun_at=200.0, since=200.0)
    opened = learn_from_answers(closed, 1, last=201.0, now=201.06, highest=500, next_slot=201.1)
    assert opened.period == 0


@pytest.mark.parametrize("slots", [100, 3], ids=["used", "unused"])
def test_once_open_the_rate_from_before_is_forgotten_whether_the_slots_are_used_or_not(slots: int) -> None:
    opened = make_stay(rate=100.0, ceiling=101.0, open_rate=800.0)
    later = learn_from_answers(opened, slots, last=21.1, now=21.1, highest=900, next_slot=21.1)
    assert later.open_rate == 0
    assert later.lasting_rate == pytest.approx(100, rel=0.01)


def test_where_the_rate_is_hardly_more_than_a_knock_a_refusal_by_chance_is_no_count_of_many_seconds() -> None:
    search = Search(3.0, since=10.0, path=(Leg(10.0, 30.0),))
    closed = knock(learn_from_refusal(search, 3.0, slot=10.0, count=5, resumes_at=11.0), 11.0)
    last = closed.begun_at
    opened = learn_from_answers(closed, 1, last=last, now=last, highest=500, next_slot=last + 0.5)
    assert (opened.period, opened.closed_since) == (0, 0)
