"""How far the rate goes down when it is refused while it stays. Pure; times are in seconds, rates in requests a
second."""

from __future__ import annotations

from dataclasses import replace

from worker.pace.search import PART_OF_CEILING, Search

# Seconds for which a rate must have been used for its refusal to tell more than that it was too high.
LASTING = 1.0
# The rate is lowered by this part of it, divided by the seconds that it had lasted: a refusal costs a second, so that
# the sooner the next one is to come the more is worth giving up for it.
DROP = 0.06
# The rate is lowered by this part of it at the least.
SMALLEST_DROP = 0.005
# The rate is lowered by this part of it at the most, where a burst that was used up twice tells by how much.
LARGEST_DROP_BY_BURST = 0.1
# The rate is lowered by this part of it at the most, where it is refused again and again.
LARGEST_DROP = 0.25
# A drop by this part of the rate or more leaves much room for the limit above it.
WIDE_DROP = 0.05
# Seconds. A rate that is refused again so soon after it was lowered was lowered by too little.
SOON = 3.0
# By this factor a rate must have lasted longer than the one before for the difference to tell the burst.
LONGER = 1.2
# Seconds until the rate climbs again after a limit was seen to fall: it may well rise again.
PROBE_AFTER_FALL = 15.0


def lower_stay(search: Search, rate: float, lasted: float) -> Search:
    """Lower a rate that stayed and was refused after it had lasted for so many seconds.

    It was a little above the limit, and the less the longer it took to be refused."""
    drop = max(DROP / max(lasted, LASTING), SMALLEST_DROP)
    if search.drop and lasted > LONGER * search.lasted:
        # Twice a burst was used up, the second time more slowly: B = (rate - L) · lasted.
        former = rate / (1 - search.drop)
        burst = (former - rate) / (1 / search.lasted - 1 / lasted)
        drop = min(max(burst / lasted / rate, SMALLEST_DROP), LARGEST_DROP_BY_BURST)
    elif search.drop and lasted < SOON:
        # It was refused as soon as before, though it is lower: it is far above the limit.
        drop = min(2 * search.drop, LARGEST_DROP)
    elif search.drop and lasted < search.lasted:
        # It was refused sooner than before, though it is lower: that was by chance.
        drop = SMALLEST_DROP
    ceiling = rate * (1 - drop) / PART_OF_CEILING
    lowered = replace(search, rate=rate * (1 - drop), drop=drop, lasted=lasted, ceiling=ceiling)
    if drop < WIDE_DROP:
        return lowered
    # It may well be too low now, so it climbs again soon; and what was refused before tells of another limit.
    probe_at = min(search.probe_at, search.begun_at + PROBE_AFTER_FALL)
    return replace(lowered, probe_at=probe_at, refused_rate=0.0, refused_climb=0.0)
