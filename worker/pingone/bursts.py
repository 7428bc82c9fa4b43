"""pingone: what refused climbs tell of the limit. Pure arithmetic.

A limit lets a burst through before it refuses. A climb of relative speed c (a second) thus passes a limit whose burst
is worth s seconds of it by the fraction √(2·c·s). Rates are in requests a second."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import NamedTuple

# Seconds of the limit that its burst is worth: so much is reckoned with after the first climb, before two can be
# compared; and so little at least, since two that were refused by chance may tell that nothing is forgiven.
LIKELY, LEAST = 0.12, 0.025
# A later climb has passed the limit within so many seconds.
PASSED_WITHIN = 3.0


class Climb(NamedTuple):
    """Refused at this rate. `speed`: relative growth a second."""

    rate: float
    speed: float


def speed_of(begun: float, refused: float, seconds: float) -> float:
    """Of a climb as it went, 0 if that is not known: steps that wait for answers, or for threads to use the rate, make
    it slower than meant."""
    return log(refused / begun) / seconds if 0 < begun < refused and seconds > 0 else 0.0


def limit_of(climb: Climb, former: Climb, *, is_first: bool) -> float:
    """The limit that this climb met. Where a faster one was refused before, their refusals lie on a line over the root
    of the speed, which meets speed 0 at the limit."""
    lowest = climb.rate / _passed(climb.speed, LIKELY) if is_first else climb.rate * exp(-PASSED_WITHIN * climb.speed)
    if not (former.rate > climb.rate and former.speed > climb.speed):
        return lowest
    root = sqrt(climb.speed / former.speed)
    limit = climb.rate - (former.rate - climb.rate) * root / (1 - root)
    return min(max(limit, lowest), climb.rate / _passed(climb.speed, LEAST))


def _passed(speed: float, burst: float) -> float:
    """Where such a climb is refused, in parts of the limit."""
    return 1 + sqrt(2 * speed * burst)
