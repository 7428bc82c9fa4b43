from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleets.searches import make_stay

from worker.pace import ceiling
from worker.pace.periods import KNOCKS, LONGEST_KNOCK_WAIT
from worker.pace.refusals import Mark, explain_refusal
from worker.pace.search import Search


def knock(search: Search, slot: float) -> Search:
    return ceiling.learn_from_refusal(search, search.rate, slot, count=0, resumes_at=slot + 1.0)


def test_where_the_first_request_after_a_hold_is_refused_few_ask() -> None:
    search = replace(make_stay(), since=10.0, sent=0.0)
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
    """The limit was known before, and 1,990 in ten seconds and two are not one that counts over twelve."""
    refusal = explain_refusal([], Mark(10.0, 1990.0), held=1.0, hold=1.0)
    closed = knock(replace(make_stay(), since=10.0, sent=0.0, refusals=(refusal,)), 10.0)
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


def test_what_is_closed_for_longer_than_any_count_lasts_tells_of_no_count() -> None:
    search = Search(200.0, begun_at=0.0, since=10.0, sent=1200.0)
    refused = ceiling.learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=11.0)
    closed = replace(knock(refused, 11.0), refused_at=199.0, begun_at=200.0, since=200.0)
    opened = ceiling.learn_from_answers(closed, 1, last=201.0, now=201.06, highest=500, next_slot=201.1)
    assert opened.period == 0


@pytest.mark.parametrize(("slots", "is_used"), [(100, True), (3, False)])
def test_once_open_the_rate_from_before_is_forgotten_whether_the_slots_are_used_or_not(
    slots: int, is_used: bool
) -> None:
    opened = replace(make_stay(), rate=100.0, ceiling=101.0, open_rate=800.0)
    later = ceiling.learn_from_answers(opened, slots, last=21.1, now=21.1, highest=900, next_slot=21.1)
    assert later.open_rate == 0
    assert later.rate == 100
    assert (later.sent > 0) == is_used
