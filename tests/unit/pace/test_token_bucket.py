from __future__ import annotations

from dataclasses import replace
from math import exp, inf

import pytest

from worker.pace.token_bucket import (
    KEPT_LEGS,
    Leg,
    Path,
    Refusal,
    add_leg,
    add_refusal,
    count_refusals,
    count_sent,
    estimate_limit,
    explain,
    find_level,
    find_limit,
    forget_before,
    read_refusals,
)

STEP = 0.05


def climb(path: Path, limit: float, burst: float, start: float, speed: float, hold: float = 1.0) -> Path:
    """Lengthen the path by a climb that a bucket of `burst` requests refuses, and by the hold after it."""
    level, rate = find_level(path, limit, burst), start
    while True:
        level = max(level + (rate - limit) * STEP, 0.0)
        if level >= burst:
            return (*add_refusal(path, STEP, rate), Leg(hold, 0.0))
        path = add_leg(path, Leg(STEP, rate * STEP))
        rate *= exp(speed * STEP)


def count(path: Path, limit: float, phase: float, start: float, speed: float) -> Path:
    """Lengthen the path by a climb that a count refuses, which begins anew each second, and by a hold of a second."""
    at, counted, rate = phase, 0.0, start
    while True:
        at, counted = at + STEP, counted + rate * STEP if int(at + STEP) == int(at) else rate * STEP
        if counted >= limit:
            return (*add_refusal(path, STEP, rate), Leg(1.0, 0.0))
        path = add_leg(path, Leg(STEP, rate * STEP))
        rate *= exp(speed * STEP)


@pytest.mark.parametrize("burst", [10, 60, 480])
def test_two_climbs_of_different_speed_tell_limit_and_burst(burst: float) -> None:
    estimate = estimate_limit(climb(climb((), 120, burst, 30, 0.8), 120, burst, 90, 0.07))
    assert estimate.limit == pytest.approx(120, rel=0.02)
    assert estimate.burst == pytest.approx(burst, rel=0.1, abs=3)
    assert not estimate.is_contradicted


def test_one_climb_leaves_nearly_all_open() -> None:
    one = climb((), 120, 60, 30, 0.8)
    assert estimate_limit(one).low < 40
    assert estimate_limit(one).high > 180
    two = estimate_limit(climb(one, 120, 60, 90, 0.07, hold=5.0))
    assert 115 < two.low < 120 < two.high < 125


def test_slots_that_were_left_unused_while_climbing_are_no_reason_to_forget_what_was_sent() -> None:
    slow = (Leg(1.0, 9.0), Leg(1.0, 36.0), Leg(1.0, 69.0))
    assert estimate_limit(climb(climb(slow, 120, 120, 140, 0.3), 120, 120, 150, 0.07)).limit == pytest.approx(120, 0.02)


def test_what_was_let_through_tells_as_well_as_what_was_refused() -> None:
    """A stretch at 150 a second for two seconds cannot be of a limit of less than 125 that forgives 50."""
    let = (Leg(2.0, 300.0), Leg(10.0, 500.0))
    path = (*let, Leg(5.0, 650.0, is_refused=True), Leg(1.0, 0.0))
    assert estimate_limit(path).low > estimate_limit(path[2:]).low + 10


@pytest.mark.parametrize("known", [0.0, 60.0])
def test_spans_from_before_the_limit_has_changed_are_forgotten(known: float) -> None:
    before = climb(climb((), 120, 60, 30, 0.8), 120, 60, 90, 0.07)
    path, estimate = explain(climb(before, 60, 60, 115, 0.01), known)
    assert count_refusals(path) == 1
    assert estimate.low < 70
    if known:
        assert estimate.limit == pytest.approx(60, rel=0.1)
        assert estimate.low < estimate.limit < estimate.high


def test_who_knows_how_much_is_forgiven_needs_one_refusal() -> None:
    path = climb((), 120, 60, 100, 0.07)
    assert find_limit(path, 60) == pytest.approx(120, rel=0.02)
    assert find_limit(path, 0, 0.5) == pytest.approx(120, rel=0.02)


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.9])
def test_a_count_is_believed_where_no_bucket_explains_what_was_refused(phase: float) -> None:
    path: Path = ()
    for number, (start, speed) in enumerate([(30, 0.8), (100, 0.07), (118, 0.01)]):
        path = count(path, 120, (phase + 0.37 * number) % 1, start, speed)
    estimate = estimate_limit(path)
    assert estimate.is_count
    assert estimate.limit == pytest.approx(120, rel=0.03)
    longer = tuple(leg._replace(seconds=5.0) if not leg.sent else leg for leg in path)
    assert not estimate_limit(longer).is_count


def test_a_refusal_of_a_request_from_before_cuts_the_path_there() -> None:
    path = (Leg(1.0, 10.0), Leg(1.0, 100.0))
    assert add_refusal(path, -0.5, 100.0) == (Leg(1.0, 10.0), Leg(0.5, 50.0, is_refused=True))
    assert add_refusal(path, -1.0, 100.0) == (Leg(1.0, 10.0, is_refused=True),)
    assert add_refusal(path, 0.5, 100.0) == (*path, Leg(0.5, 50.0, is_refused=True))
    assert count_sent(add_refusal((), 0.0, 100.0)) == 1


def test_legs_of_one_rate_are_one_but_a_hold_stays_what_it_is() -> None:
    assert add_leg((Leg(1.0, 100.0),), Leg(2.0, 201.0)) == (Leg(3.0, 301.0),)
    assert add_leg((Leg(1.0, 100.0),), Leg(2.0, 220.0)) == (Leg(1.0, 100.0), Leg(2.0, 220.0))
    held = (Leg(1.0, 100.0, is_refused=True), Leg(1.0, 0.0))
    assert add_leg(held, Leg(2.0, 0.0)) == (*held, Leg(2.0, 0.0))
    assert add_leg(held, Leg(0.0, 0.0)) == held


def test_a_path_is_no_longer_than_what_is_kept() -> None:
    path: Path = ()
    for number in range(2 * KEPT_LEGS):
        path = add_leg(path, Leg(1.0, 10.0 + 90 * (number % 2)))
    assert len(path) == KEPT_LEGS


def test_what_is_known_of_each_refusal_is_read_from_the_path() -> None:
    first = (Leg(1.0, 30.0), Leg(2.0, 120.0, is_refused=True), Leg(5.0, 0.0))
    path = (*first, Leg(3.0, 200.0), Leg(1.0, 90.0, is_refused=True), Leg(2.0, 0.0))
    assert read_refusals(path) == [Refusal(3.0, 150.0, 5.0), Refusal(4.0, 290.0, 2.0)]
    assert forget_before(path) == path[2:]


@pytest.mark.parametrize(("seconds", "sent"), [(0.5, 45), (1.0, 90), (2.5, 190), (inf, 290)])
def test_how_much_was_sent_in_the_last_seconds_lies_between_the_legs(seconds: float, sent: float) -> None:
    assert count_sent((Leg(3.0, 200.0), Leg(1.0, 90.0)), seconds) == pytest.approx(sent)


def test_a_refusal_empties_a_bucket_and_a_hold_fills_it_no_further_than_it_goes() -> None:
    path = (Leg(1.0, 10.0), Leg(1.0, 150.0, is_refused=True))
    assert find_level(path, limit=100.0, burst=60.0) == 60
    assert find_level((*path, Leg(0.5, 0.0)), limit=100.0, burst=60.0) == pytest.approx(10)
    assert find_level((*path, Leg(9.0, 0.0)), limit=100.0, burst=60.0) == 0


def test_what_is_contradicted_by_a_tenth_of_the_burst_and_a_few_requests_may_be_chance() -> None:
    estimate = replace(estimate_limit(climb((), 120, 100, 30, 0.8)), limit=100.0, burst=100.0)
    assert not replace(estimate, contradiction=0.12).is_contradicted
    assert replace(estimate, contradiction=0.14).is_contradicted
