"""What the refusals of two climbs tell of the license's limit. Pure arithmetic; rates are in requests a second.

A limit lets a burst of requests through before it refuses. A climb of relative speed c (a second) thus passes a limit
whose burst is worth s seconds of it by the fraction √(2·c·s)."""

from __future__ import annotations

from math import exp, sqrt
from typing import NamedTuple

# Seconds of the limit that its burst is taken to be worth, until two climbs can be compared.
LIKELY_BURST = 0.12
# Seconds of the limit. Two climbs that were refused by chance may tell that nothing is forgiven, so no burst is taken
# for smaller than this.
SMALLEST_BURST = 0.025
# Seconds of the limit; no burst is taken for larger.
LARGEST_BURST = 0.3
# Seconds. A climb that may have begun above the limit is taken back by as much as it grew in this time.
GROWTH_TAKEN_BACK = 3.0


class RefusedClimb(NamedTuple):
    """A climb that was refused at `rate`, while the rate grew by the part `speed` of itself a second."""

    rate: float
    speed: float


def estimate_limit(
    climb: RefusedClimb, former: RefusedClimb, *, began_below: bool, burst: float = LIKELY_BURST
) -> float:
    """Estimate the limit that refused this climb.

    Where a faster climb was refused before, the two refused rates lie on a line over the root of the speed, which meets
    speed 0 at the limit; but the burst is taken to be worth `burst` seconds of the limit at the most. A climb that may
    not have begun below the limit (`began_below`) tells less."""
    lowest = compute_limit(climb, burst) if began_below else climb.rate * exp(-GROWTH_TAKEN_BACK * climb.speed)
    if not (former.rate > climb.rate and former.speed > climb.speed):
        return lowest
    root = sqrt(climb.speed / former.speed)
    limit = climb.rate - (former.rate - climb.rate) * root / (1 - root)
    return min(max(limit, lowest), compute_limit(climb, SMALLEST_BURST))


def compute_limit(climb: RefusedClimb, burst: float) -> float:
    """Compute the limit that refuses this climb if its burst is worth so many seconds of it."""
    return climb.rate / (1 + sqrt(2 * climb.speed * burst))


def predict_overshoot(limit: float, former: RefusedClimb, speed: float) -> float:
    """Predict by which part of the limit a climb of this speed passes it, from a former climb that it refused; 0 where
    there is none."""
    return (former.rate / limit - 1) * sqrt(speed / former.speed) if former.rate else 0.0
