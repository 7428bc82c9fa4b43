"""pingone: what refused climbs tell of the limit. Pure arithmetic.

A limit lets a burst through before it refuses. A climb of relative speed c (a second) thus passes a limit whose burst
is worth s seconds of it by the fraction √(2·c·s). Rates are in requests a second."""

from __future__ import annotations

from math import exp, sqrt
from typing import NamedTuple

# Seconds of the limit that its burst is worth: reckoned with before two climbs can be compared; at the least, since two
# that were refused by chance may tell that nothing is forgiven; and at the most.
LIKELY, LEAST, MOST = 0.12, 0.025, 0.3
# A climb that may have begun above the limit is taken back by as much as it grew in so many seconds.
PASSED_WITHIN = 3.0


class Climb(NamedTuple):
    """Refused at this rate. `speed`: relative growth a second."""

    rate: float
    speed: float


def limit_of(climb: Climb, former: Climb, *, began_below: bool, burst: float = LIKELY) -> float:
    """The limit that this climb met. Where a faster one was refused before, their refusals lie on a line over the root
    of the speed, which meets speed 0 at the limit; but its burst is taken to be worth `burst` seconds at the most. A
    climb that may not have begun below the limit tells less."""
    lowest = limit_forgiving(climb, burst) if began_below else climb.rate * exp(-PASSED_WITHIN * climb.speed)
    if not (former.rate > climb.rate and former.speed > climb.speed):
        return lowest
    root = sqrt(climb.speed / former.speed)
    limit = climb.rate - (former.rate - climb.rate) * root / (1 - root)
    return min(max(limit, lowest), limit_forgiving(climb, LEAST))


def limit_forgiving(climb: Climb, burst: float) -> float:
    """The limit that refuses this climb if its burst is worth so many seconds of it."""
    return climb.rate / (1 + sqrt(2 * climb.speed * burst))


def passing(limit: float, former: Climb, speed: float) -> float:
    """By which part of it a climb of this speed passes a limit that refused the former."""
    return (former.rate / limit - 1) * sqrt(speed / former.speed) if former.rate else 0.0
