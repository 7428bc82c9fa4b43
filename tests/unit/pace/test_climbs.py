from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleets.searches import make_stay

from worker.pace import ceiling
from worker.pace.climbs import LEAST_START, SECOND_CLIMB, SLOWEST_CLIMB
from worker.pace.search import Search


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


def refuse(search: Search, slot: float, hold: float) -> Search:
    return ceiling.learn_from_refusal(search, search.rate, slot, count=5, resumes_at=slot + hold)


def test_the_second_climb_is_slow_and_begins_further_down() -> None:
    refused = refuse(Search(200.0, since=2.0, sent=210.0), slot=2.0, hold=1.0)
    assert (refused.climb, refused.ceiling) == (SECOND_CLIMB, 0)
    assert LEAST_START * 200 <= refused.rate < 0.7 * 200


def test_a_climb_that_comes_further_than_expected_speeds_up() -> None:
    def grow(rate: float) -> float:
        search = make_stay(climb=0.05, expected=220.0)
        grown = ceiling.learn_from_answers(
            replace(search, rate=rate), 50, last=20.2, now=20.21, highest=900, next_slot=20.2
        )
        return grown.rate / rate - 1

    assert grow(215.0) == pytest.approx(0.05 * 0.21, rel=0.01)
    assert grow(230.0) > 1.8 * grow(215.0)
    assert grow(245.0) > 1.1 * grow(230.0)


def test_at_the_highest_rate_nothing_is_known_of_the_limit_but_that_it_is_higher() -> None:
    search = make_stay(climb=0.05)
    highest = ceiling.learn_from_answers(search, 50, last=20.2, now=20.21, highest=200, next_slot=20.2)
    assert (highest.rate, highest.climb, highest.ceiling) == (200, 0, 0)
    raised = replace(highest, probe_at=0.0)
    further = ceiling.learn_from_answers(raised, 220, last=21.3, now=21.31, highest=500, next_slot=21.3)
    assert further.climb > 0


@pytest.mark.parametrize(("lasted", "climb"), [(10.0, 0.025), (600.0, SLOWEST_CLIMB)])
def test_after_a_slow_first_climb_the_second_is_slower_still_but_no_slower_than_any(
    lasted: float, climb: float
) -> None:
    refused = refuse(Search(100.0, climb=0.1, since=lasted, sent=100 * lasted), slot=lasted, hold=1.0)
    assert refused.climb == pytest.approx(climb)
