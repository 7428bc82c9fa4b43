from __future__ import annotations

import pytest

from worker.pace.bursts import RefusedClimb, estimate_limit


def refused(limit: float, burst: int, speed: float) -> RefusedClimb:
    """Where a bucket refuses a climb of this speed: it passes the limit by √(2·c·burst/limit)."""
    return RefusedClimb(limit * (1 + (2 * speed * burst / limit) ** 0.5), speed)


@pytest.mark.parametrize(("limit", "burst"), [(400, 10), (200, 10), (500, 25)])
def test_two_climbs_of_different_speed_tell_the_limit(limit: float, burst: int) -> None:
    found = estimate_limit(refused(limit, burst, 0.02), refused(limit, burst, 0.08), began_below=False)
    assert found == pytest.approx(limit, rel=0.001)


def test_a_steep_climb_alone_tells_a_limit_that_is_not_too_high() -> None:
    assert 0.8 * 200 < estimate_limit(refused(200, 10, 2.8), RefusedClimb(0, 0), began_below=True) < 200


@pytest.mark.parametrize("former", [222.5, 223.0, 226.0])
def test_refusals_by_chance_do_not_tell_that_nothing_is_forgiven(former: float) -> None:
    """The climb was refused as high as one of six times its speed: the line through both would end hardly below."""
    assert estimate_limit(RefusedClimb(222.0, 0.08), RefusedClimb(former, 0.5), began_below=False) < 0.95 * 222


def test_a_line_that_ends_far_below_is_not_believed() -> None:
    assert estimate_limit(RefusedClimb(200.0, 0.02), RefusedClimb(400.0, 0.021), began_below=False) == pytest.approx(
        188, rel=0.01
    )
