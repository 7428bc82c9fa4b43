from __future__ import annotations

from math import exp

import pytest

from worker.pace.refusals import (
    BURSTS,
    KEPT_REFUSALS,
    LONG_HOLD,
    Mark,
    Refusal,
    explain_refusal,
    find_sent,
    keep_refusal,
)


def climb_until_refused(limit: float, burst: float, speed: float, start: float, held: float = LONG_HOLD) -> Refusal:
    """A climb that a bucket refuses, in steps of 10 ms; `burst` in seconds of the limit."""
    at, sent, rate, marks = 0.0, 0.0, start, []
    left = limit * min(burst, held)
    while left > 0:
        if not marks or at - marks[-1].at > 0.2:
            marks.append(Mark(at, sent))
        at, sent, rate = at + 0.01, sent + rate * 0.01, rate * exp(speed * 0.01)
        left = min(left + (limit - rate) * 0.01, limit * burst)
    return explain_refusal(marks, Mark(at, sent), held, hold=1.0)


@pytest.mark.parametrize("speed", [0.8, 0.07, 0.01])
@pytest.mark.parametrize("burst", [0.05, 0.5, 5.0])
def test_a_refusal_tells_the_limit_to_who_knows_the_burst(burst: float, speed: float) -> None:
    refusal = climb_until_refused(120.0, burst, speed, start=60.0)
    assert refusal.find_limit(burst) == pytest.approx(120, rel=0.015)
    assert refusal.find_limit_of_bucket(120 * burst) == pytest.approx(120, rel=0.015)


def test_a_refusal_above_the_limit_tells_it_too() -> None:
    """Nobody knows whether a span began below the limit."""
    assert climb_until_refused(120.0, 0.5, 0.07, start=200.0).find_limit(0.5) == pytest.approx(120, rel=0.01)


def test_after_a_short_hold_no_more_than_that_was_there() -> None:
    refusal = climb_until_refused(120.0, 5.0, 0.01, start=180.0, held=1.0)
    assert refusal.find_limit(5.0) == pytest.approx(120, rel=0.01)
    assert refusal.find_limit(2.0) == pytest.approx(120, rel=0.01)


def test_the_larger_the_burst_the_lower_the_limit_that_explains_a_refusal() -> None:
    limits = climb_until_refused(120.0, 0.5, 0.8, start=30.0).limits
    assert list(limits) == sorted(limits, reverse=True)


def test_bursts_beyond_the_smallest_and_the_largest_count_as_those() -> None:
    refusal = climb_until_refused(120.0, 0.5, 0.8, start=30.0)
    assert refusal.find_limit(BURSTS[0] / 10) == refusal.limits[0]
    assert refusal.find_limit(BURSTS[-1] * 10) == refusal.limits[-1]


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("speed", [0.8, 0.07, 0.01])
def test_a_count_that_begins_anew_each_second_lies_between_its_bounds(speed: float, phase: float) -> None:
    at, sent, counted, rate, marks = 0.0, 0.0, 0.0, 60.0, []
    while counted < 120:
        if not marks or at - marks[-1].at > 0.1:
            marks.append(Mark(at, sent))
        if int(at + phase) != int(at + phase - 0.01):
            counted = 0.0
        at, sent, counted, rate = at + 0.01, sent + rate * 0.01, counted + rate * 0.01, rate * exp(speed * 0.01)
    refusal = explain_refusal(marks, Mark(at, sent), LONG_HOLD, hold=1.0)
    assert refusal.count_low * 0.99 < 120 < refusal.count_high * 1.01


def test_how_much_was_sent_by_then_lies_between_the_marks() -> None:
    marks, end = [Mark(1.0, 10.0), Mark(3.0, 50.0)], Mark(4.0, 90.0)
    assert [find_sent(marks, end, at) for at in (0.5, 1.0, 2.0, 3.5, 9.0)] == pytest.approx([5, 10, 30, 70, 90])


def test_the_first_two_refusals_stay() -> None:
    refusals: tuple[Refusal, ...] = ()
    for number in range(5):
        refusals = keep_refusal(refusals, Refusal(number + 1.0, 1.0, 1.0, 1.0, 1.0, (1.0,)))
    assert [refusal.sent for refusal in refusals] == [1, 2, 5]
    assert len(refusals) == KEPT_REFUSALS
