"""pingone: what refused climbs tell of the limit. Pure arithmetic.

A limit lets a burst through before it refuses. A climb of relative speed c (a second) thus passes a limit whose burst
is worth s seconds of it by the fraction √(2·c·s). Rates are in requests a second."""

from __future__ import annotations

from math import exp, sqrt
from typing import NamedTuple

# Seconds of the limit that its burst is worth: so much is reckoned with after a steep climb, before two can be
# compared; and so little at least, since two that were refused by chance may tell that nothing is forgiven.
LIKELY, LEAST = 0.12, 0.025
# Any other climb has passed the limit within so many seconds.
STEEP, PASSED_WITHIN = 0.25, 3.0


class Climb(NamedTuple):
    """Refused at this rate. `speed`: relative growth a second."""

    rate: float
    speed: float


def limit_of(climb: Climb, former: Climb) -> float:
    """The limit that this climb met. Where a faster one was refused before, their refusals lie on a line over the root
    of the speed, which meets speed 0 at the limit."""
    lowest = cautious(climb) if climb.speed > STEEP else climb.rate * exp(-PASSED_WITHIN * climb.speed)
    if not (former.rate > climb.rate and former.speed > climb.speed):
        return lowest
    root = sqrt(climb.speed / former.speed)
    limit = climb.rate - (former.rate - climb.rate) * root / (1 - root)
    return min(max(limit, lowest), climb.rate / _passed(climb.speed, LEAST))


def cautious(climb: Climb) -> float:
    """The limit if it forgives much."""
    return climb.rate / _passed(climb.speed, LIKELY)


def _passed(speed: float, burst: float) -> float:
    """Where such a climb is refused, in parts of the limit."""
    return 1 + sqrt(2 * speed * burst)
