from __future__ import annotations

import pytest

from worker.pace.estimates import DISAGREEMENT, estimate_by_burst, estimate_limit
from worker.pace.refusals import BURSTS, Refusal


def refusal(limit: float, burst: float, steepness: float, hold: float = 1.0) -> Refusal:
    """A refusal by a bucket, `burst` in seconds of it; the limit that it tells falls with the burst, by this power."""
    limits = tuple(limit * (burst / tried) ** steepness for tried in BURSTS)
    return Refusal(500.0, 5.0, hold, limits[0] * 0.9, limits[0], limits)


FAST, SLOW = 0.4, 0.12


@pytest.mark.parametrize("burst", [0.02, 0.3, 4.0])
def test_two_climbs_of_different_speed_tell_limit_and_burst(burst: float) -> None:
    estimate = estimate_limit([refusal(120, burst, FAST), refusal(120, burst, SLOW)])
    assert estimate.limit == pytest.approx(120, rel=0.01)
    assert estimate.burst == pytest.approx(burst, rel=0.1)
    assert not estimate.is_count


def test_two_climbs_that_hardly_differ_leave_much_open() -> None:
    alike = estimate_limit([refusal(120, 0.3, 0.3), refusal(120, 0.3, 0.28)])
    different = estimate_limit([refusal(120, 0.3, FAST), refusal(120, 0.3, SLOW)])
    assert alike.spread > 3 * different.spread
    assert alike.low < 120 < alike.high


def test_what_one_limit_does_not_explain_disagrees() -> None:
    assert estimate_limit([refusal(120, 0.3, SLOW), refusal(240, 0.3, SLOW)]).disagreement > DISAGREEMENT
    assert estimate_limit([refusal(120, 0.3, FAST), refusal(120, 0.3, SLOW)]).disagreement < 0.01


def counted(low: float, high: float, burst: float, steepness: float, hold: float = 1.0) -> Refusal:
    return refusal(120, burst, steepness, hold)._replace(count_low=low, count_high=high)


def test_a_count_is_believed_where_no_bucket_explains_what_was_refused() -> None:
    refusals = [counted(90, 130, 0.3, FAST), counted(118, 126, 0.1, SLOW), counted(120, 121, 0.02, 0.05)]
    estimate = estimate_limit(refusals)
    assert (estimate.is_count, estimate.limit) == (True, 120)


def test_a_limit_that_asks_to_wait_for_long_is_no_count_of_a_second() -> None:
    refusals = [counted(90, 130, 0.3, FAST, 5), counted(118, 126, 0.1, SLOW, 5), counted(120, 121, 0.02, 0.05, 5)]
    assert not estimate_limit(refusals).is_count


def test_who_knows_how_much_is_forgiven_needs_one_refusal() -> None:
    estimate = estimate_by_burst(refusal(120, 0.5, SLOW), requests=60)
    assert estimate.limit == pytest.approx(120, rel=0.01)
    assert 0.95 * 120 < estimate.low < 120 < estimate.high < 1.05 * 120
