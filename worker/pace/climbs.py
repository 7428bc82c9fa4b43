"""How the rate climbs until it is refused, and which climb comes next. Pure; times are in seconds, rates in requests a
second.

The first climb is fast, the second slow: together they tell limit and burst. A third, slower one comes only where that
is worth what its refusal costs. Long after that, slow climbs see whether the limit has risen."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt

from worker.pace.estimates import DISAGREEMENT, Estimate, estimate_by_burst, estimate_limit
from worker.pace.refusals import KEPT_REFUSALS, Refusal, keep_refusal
from worker.pace.search import FIRST_CLIMB, STEP, Search, set_mark
from worker.pace.stays import PROBE_AFTER_FALL, WIDE, compute_waste, settle

# The first climb grows by no more than this over the seconds that it has lasted: what is on the way when a limit is met
# that counts over many seconds would be a large part of all.
FIRST_REACH = 1.5
# Growth of a climb while one request is answered, at the most.
GROWTH_A_ROUND_TRIP = 0.05
# Growth a second that slow answers leave to a climb.
SLOW_CLIMB = 0.12
# Relative growth a second of the second climb, and of any later one at the most.
SECOND_CLIMB = 0.07
# The second climb is slower than the first by this factor at the least, to tell limit and burst apart.
SLOWER = 4.0
# Seconds of the limit that its burst is taken to be worth before a second climb tells.
LIKELY_BURST = 0.5
# The second climb begins at no less than this part of the rate that was refused.
LEAST_START = 0.4
# A later climb begins at no less than this part of what the limit probably is.
LEAST_PART = 0.9
# Seconds in which a later climb passes what the limit may be.
PASSED_WITHIN = 13.0
# Relative growth a second of the slowest climb.
SLOWEST_CLIMB = 0.006
# Relative growth a second of a climb that sees whether the limit has risen.
PROBING_CLIMB = 0.05
# Relative growth a second of a climb that has come further than expected; more the further it comes.
RISEN_CLIMB = 0.1
# How far a climb comes beyond what is expected before that is wrong, as a logarithm.
BEYOND = 0.03
# Seconds of the limit that it is worth to know it better, by the logarithm of what it may be.
WORTH = 18.0
# The rate grows by this part between two marks, times the root of the climb: slow climbs tell the burst by less.
NEXT_MARK = 0.1
# How much one step grows at the most, as a logarithm: slow answers make for long steps, which must not be wild ones.
LARGEST_STEP = 0.4


def climb_further(search: Search, reviewed: Search, trip: float, highest: float) -> Search:
    """Raise the rate by one step of its climb, for the time since the last step; an answer takes `trip` seconds."""
    climb, seconds = search.climb, reviewed.since - search.since
    elapsed = reviewed.since - reviewed.begun_at
    if search.expected and search.rate > search.expected:
        climb = max(climb, min(RISEN_CLIMB * (search.rate / search.expected) ** 2, FIRST_CLIMB))
    if not search.refusals:
        climb = min(climb, max(FIRST_REACH / max(elapsed, STEP), SLOW_CLIMB))
    climb = min(climb, max(GROWTH_A_ROUND_TRIP / max(trip, 0.001), SLOW_CLIMB))
    rate = search.rate * exp(min(climb * seconds, LARGEST_STEP))
    marked_at = reviewed.marks[-1].at if reviewed.marks else 0.0
    if not reviewed.marks or climb * (elapsed - marked_at) > NEXT_MARK * sqrt(climb):
        reviewed = set_mark(reviewed)
    if search.is_shared and rate >= search.rate_below_ceiling:
        # The next refusal is the first again.
        return replace(reviewed, rate=search.rate_below_ceiling, climb=0.0, probe_after=PROBE_AFTER_FALL / 2)
    if rate >= highest:
        # Whatever was known of the limit, it is higher.
        return replace(reviewed, rate=highest, climb=0.0, ceiling=0.0)
    return replace(reviewed, rate=rate)


def probe(search: Search) -> Search:
    """Climb slowly, to see whether the limit has risen."""
    if not search.ceiling:
        return replace(set_mark(search), climb=SECOND_CLIMB)
    carried = sqrt(2 * PROBING_CLIMB * search.burst / search.ceiling) + 1.5 * PROBING_CLIMB * search.period
    return replace(set_mark(search), climb=PROBING_CLIMB, expected=search.ceiling * exp(BEYOND + 1.1 * carried))


def narrow_down(search: Search, refusal: Refusal, rate: float) -> Search:
    """Climb once more, more slowly, to tell limit and burst apart; or stay below the limit, once it is known well
    enough."""
    refusals, estimate = _estimate(search, refusal)
    known = replace(search, refusals=refusals)
    if len(refusals) == 1 and not search.burst:
        start = max(refusal.find_limit(LIKELY_BURST), LEAST_START * rate)
        # The first climb may have been slow, because answers were: so fast it was.
        first_climb = rate / refusal.sent
        climb = min(SECOND_CLIMB, max(first_climb / SLOWER, SLOWEST_CLIMB))
        return _climb_from(known, start, climb, estimate)
    wasted = compute_waste(refusal.hold, estimate.burst)
    if len(refusals) == KEPT_REFUSALS or log(estimate.high / estimate.limit) * WORTH <= wasted:
        return settle(known, refusal.hold, estimate)
    climb = min(max((estimate.spread + 0.02) / PASSED_WITHIN, SLOWEST_CLIMB), SECOND_CLIMB)
    return _climb_from(known, max(0.98 * estimate.low, LEAST_PART * estimate.limit), climb, estimate)


def _estimate(search: Search, refusal: Refusal) -> tuple[tuple[Refusal, ...], Estimate]:
    """Estimate the limit from the refusals that it explains; return them too."""
    if search.burst and len(search.refusals) == KEPT_REFUSALS:
        # Climbs of different speed have told the burst; one more of the same speed tells the limit alone.
        estimate = estimate_by_burst(refusal, search.burst)
        is_same = search.ceiling > 0 and abs(estimate.limit / search.ceiling - 1) < WIDE
        return (search.refusals if is_same else (refusal,)), estimate
    refusals = keep_refusal(search.refusals, refusal)
    estimate = estimate_limit(refusals)
    while estimate.disagreement > DISAGREEMENT and len(refusals) > 1:
        # The limit has changed since the first of them.
        refusals = refusals[1:]
        estimate = estimate_limit(refusals)
    if len(refusals) == 1 and search.burst:
        estimate = estimate_by_burst(refusal, search.burst)
    return refusals, estimate


def _climb_from(search: Search, rate: float, climb: float, estimate: Estimate) -> Search:
    expected = estimate.high * exp(BEYOND + sqrt(2 * climb * estimate.burst))
    rate = max(rate, search.lowest_rate)
    return replace(search, rate=rate, climb=climb, expected=expected, ceiling=0.0, drop=0.0)
