"""How the rate stays just below a limit that was found. Pure; times are in seconds, rates in requests a second."""

from __future__ import annotations

from dataclasses import replace

from worker.pace.estimates import Estimate, estimate_limit
from worker.pace.refusals import Refusal, keep_refusal
from worker.pace.search import PART_OF_CEILING, PROBE_AFTER, Search, hold_rate

# Seconds that the rate waits until it climbs again, at the most: the wait grows with each climb that finds nothing.
LONGEST_PROBE_WAIT = 3600.0
# After a climb that found nothing, the wait until the next is so many times the one before: twice as long would leave a
# rise unseen for longer, and save hardly a refusal.
LONGER_WAIT = 1.5
# Of what a hold has given to a bucket, a sprint spends this part.
SPENT = 0.75
# A sprint is so much faster than the limit.
SPRINT = 1.1
# Seconds of the limit. A hold that gives less is not worth a sprint.
SMALLEST_GAIN = 0.2
# Seconds of the limit that a refusal wastes at the least: what is on the way is refused with it.
LEAST_WASTE = 0.4
# For each second that a refusal wastes, the rate stays below the limit by this part more.
CAUTION = 0.0005
# Seconds. Where holds are longer, the rate stays below all that the limit may be.
LONG = 10.0
# A limit that differs by more than this part from the one that was known has changed.
WIDE = 0.05
# Seconds, or as many holds, until the rate climbs again after a limit was seen to fall: it may well rise again.
PROBE_AFTER_FALL = 15.0
# By this part, for each second of the hold, a rate is lowered that is refused while it stays.
FIRST_DROP = 0.006
# A rate that is refused again before it has lasted for so many holds is lowered by twice as much as before.
SOON = 5.0
# By this part it is lowered at the least.
SMALLEST_DROP = 0.003
# By this part it is lowered at the most.
LARGEST_DROP = 0.5


def compute_waste(hold: float, burst: float) -> float:
    """Compute how many seconds of the limit a hold wastes: a bucket is filled meanwhile, and that is spent later."""
    return max(hold - SPENT * min(burst, hold), LEAST_WASTE)


def settle(search: Search, hold: float, estimate: Estimate) -> Search:
    """Stay below the limit that climbs have told."""
    burst = 0.0 if estimate.is_count else estimate.burst
    wasted = compute_waste(hold, burst)
    limit = estimate.low if hold > LONG and not estimate.is_count else estimate.limit
    limit *= 1 - CAUTION * wasted
    finds_nothing = search.ceiling > 0 and limit < (1 + WIDE) * search.ceiling
    wait = min(LONGER_WAIT * search.probe_after, LONGEST_PROBE_WAIT) if finds_nothing else PROBE_AFTER * wasted
    return stay_below(search, limit, burst * limit, wait)


def lower_stay(search: Search, refusal: Refusal, *, was_idle: bool) -> Search:
    """Lower a rate that stayed and was refused: to what the refusal tells, and by some part at the least.

    `was_idle`: the fleet had not used its slots before this span, as where its machine stands still for moments; what
    then leaves at once may be refused whatever the limit is."""
    known = _learn_burst(search, refusal)
    told = refusal.find_limit_of_bucket(known.burst) if known.burst else search.ceiling
    limit = min(told, search.ceiling * (1 - compute_drop(search, refusal.lasted, refusal.hold)))
    if was_idle and refusal.lasted < SOON * refusal.hold:
        limit = max(limit, search.ceiling * (1 - WIDE))
    if limit >= (1 - WIDE) * search.ceiling:
        lowered = stay_below(known, limit, known.burst, search.probe_after)
        probe_at = max(search.probe_at, search.begun_at + PROBE_AFTER / 4)
        return replace(lowered, drop=1 - limit / search.ceiling, probe_at=probe_at)
    # The limit has fallen, so what was refused before tells nothing of it.
    limit = max(limit, search.ceiling * (1 - LARGEST_DROP))
    return stay_below(replace(search, refusals=()), limit, known.burst, PROBE_AFTER_FALL * max(refusal.hold, 1.0))


def compute_drop(search: Search, lasted: float, hold: float) -> float:
    """Compute by which part a rate that was refused while it stayed is lowered at the least: by half of what the hold
    has wasted, but not by much the first time."""
    again = 2 * search.drop if lasted < SOON * hold else 0.0
    return max(min(hold / (lasted + hold) / 2, max(again, FIRST_DROP * hold)), SMALLEST_DROP)


def stay_below(search: Search, limit: float, burst: float, wait: float) -> Search:
    """Stay just below this limit, which forgives `burst` requests, after a sprint that spends what a hold has given;
    climb again after `wait` seconds."""
    limit = max(limit, search.lowest_rate / PART_OF_CEILING)
    found = replace(search, ceiling=limit, burst=burst, drop=0.0)
    stay = hold_rate(replace(found, rate=found.rate_below_ceiling), wait)
    gain = min(burst / limit, stay.held)
    if gain < SMALLEST_GAIN or stay.share < 1:
        return stay
    seconds = SPENT * gain / (SPRINT - PART_OF_CEILING)
    return replace(stay, rate=limit * SPRINT, sprint_until=stay.begun_at + seconds)


def _learn_burst(search: Search, refusal: Refusal) -> Search:
    """Ask once more whether the limit is a bucket, where it was taken for a count that forgives nothing."""
    if search.burst or not search.refusals:
        return search
    refusals = keep_refusal(search.refusals, refusal)
    estimate = estimate_limit(refusals)
    is_first = not search.drop
    if estimate.is_count or (is_first and estimate.limit < (1 - WIDE) * search.ceiling):
        return search
    return replace(search, refusals=refusals, burst=estimate.burst * estimate.limit)
