"""How the pace finds the license's limit. Pure: a state and an event give the next state.

No limit is published, and no answer says how much of it is left, so it is found by meeting it: the rate climbs until a
request is refused. What stands in the way of an exact answer is the burst that a limit forgives. A climb at relative
speed c (a second) passes a limit L that forgives B requests by about the fraction √(2·c·B/L), so

- the first climb is steep, each one after a refusal slower, and begins below what the last can have passed;
- two climbs of different speed tell the limit: the refused rates, drawn over the root of the speed, lie on a line,
  which meets speed 0 at the limit;
- once that is known well enough, the rate stays just below. It climbs again, slowly, to see whether the limit has
  risen, and rarely, since a refusal costs what `Retry-After` asks for; the longer nothing was found, the more rarely.

Only answers to slots of the present rate count, and only if they show that the rate was used: a rate at which nobody
sends finds no limit. Refusals of slots from before the last refusal are part of it. Times are in seconds of one clock,
rates in requests a second. How this differs from others: docs/decisions/0010-finding-the-ceiling.md."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

from worker.pace.bursts import LARGEST_BURST, RefusedClimb, estimate_limit, predict_overshoot
from worker.pace.search import FIRST_CLIMB, PROBE_AFTER, Search, hold_rate, restart_counting
from worker.pace.stays import LASTING, PROBE_AFTER_FALL, lower_stay

# Relative growth a second above which a climb surely began below the limit that refused it.
STEEP_CLIMB = 0.2
# Relative growth a second of a climb after a refusal, at the most.
NARROWING_CLIMB = 0.08
# Relative growth a second of a climb that begins far below the limit.
CLIMB_AFTER_FALL = 0.13
# Relative growth a second of a climb that sees whether the limit has risen.
PROBING_CLIMB = 0.009
# Each climb after a refusal is slower by this factor than the one that was refused.
SLOWER = 4
# The part of the slots that must have been used for their answers to count.
USED = 0.85
# By this factor a rate goes down that was refused before it had lasted.
FALL = 0.7
# Seconds. A climb that lasted for longer had begun below the limit, or hardly above it.
SURELY_BELOW = 2.0
# Seconds in which a climb comes from where it begins to where the last one was refused.
BACK_WITHIN = 12.0
# A refused rate tells the ceiling well enough if it is no further above it than this part of it.
PRECISE = 0.066
# Seconds that the rate waits at the most until it climbs again: the wait grows with each climb that finds nothing.
LONGEST_PROBE_WAIT = 3600.0
# A refusal of less than this multiple of the ceiling finds nothing new: a burst alone carries a slow climb as far.
NOTHING_NEW = 1.12
# A climb has found a higher limit once it is further above the ceiling than a burst carries it, by this factor.
CARRIED = 1.2
# A climb has found a higher limit once it is above the ceiling by this part of it, at the least.
BEYOND = 0.05
# A climb that has found a higher limit speeds up: e-fold in so many seconds.
FASTER = 1.0
# How much one step grows at the most, as a logarithm: slow answers make for long steps, which must not be wild ones.
LARGEST_STEP = 0.4
# Seconds. Shorter times count as this: a clock may have gone back, and slots may have come at once.
SHORTEST = 0.001


def learn_from_answers(search: Search, count: int, last: float, now: float, highest: float, next_slot: float) -> Search:
    """Move the rate after `count` answers to slots since `search.since`, the last of them to a slot at `last`.

    No rate is above `highest`. The slots before `next_slot` are given out already, at the old rate: they tell nothing
    of a new one."""
    if last < search.review_due_at:
        return search
    reviewed = replace(search, since=max(now, next_slot))
    if search.is_fixed:
        return reviewed
    if search.rate > highest:
        # A person may have lowered the highest rate meanwhile.
        return replace(reviewed, rate=highest, changed_at=now)
    if count < USED * search.rate * (last - search.since):
        return replace(reviewed, changed_at=now)
    if search.is_shared:
        highest = min(highest, search.rate_below_ceiling)
    if search.climb:
        return _climb_further(search, reviewed, now, highest)
    is_due = now >= search.probe_at and search.rate < highest
    probing = replace(search, climb=PROBING_CLIMB)
    return restart_counting(probing, reviewed.since) if is_due else reviewed


def learn_from_refusal(search: Search, rate: float, slot: float, count: int, resumes_at: float) -> Search:
    """Move the rate after a request was refused that had its slot at this rate, at the time `slot`.

    `count` answers have come to slots since `search.since`. Nothing goes out before `resumes_at`."""
    if slot < search.begun_at or search.is_fixed:
        return search
    resumed = restart_counting(search, resumes_at)
    has_answers = count > 0 or search.since > search.begun_at
    if not has_answers:
        # Everything is refused, whatever the rate, so this tells nothing of it.
        return resumed
    rate, lasted = min(rate, search.rate), max(slot - search.begun_at, SHORTEST)
    if search.is_shared:
        # Others use the limit too: make room for them, and come back to our share later.
        return hold_rate(replace(resumed, rate=rate * FALL), PROBE_AFTER_FALL)
    if lasted < LASTING and search.climb != FIRST_CLIMB and (search.climb or search.drop):
        return _search_from_below(resumed, rate)
    if not search.climb:
        return lower_stay(resumed, rate, lasted)
    climb = RefusedClimb(rate, search.speed or search.climb)
    if search.ceiling and rate < NOTHING_NEW * search.ceiling:
        wait = search.probe_after * (1.5 if search.has_fallen else 2.0)
        # The stay below this ceiling has lasted, so the limit may be a little higher; or more than that, by what the
        # climbs tell.
        limit = estimate_limit(climb, _recall_refused_climb(search), began_below=True, burst=LARGEST_BURST)
        ceiling = min(max(search.ceiling * 1.004, limit), rate)
        again = replace(resumed, ceiling=ceiling, drop=0.0)
        return hold_rate(replace(again, rate=again.rate_below_ceiling), min(wait, LONGEST_PROBE_WAIT))
    return _narrow_down(resumed, climb, lasted)


def _climb_further(search: Search, reviewed: Search, now: float, highest: float) -> Search:
    """Raise the rate by one step of its climb, for the time since the last step."""
    climb, seconds = search.climb, max(now - search.changed_at, SHORTEST)
    if _is_limit_higher(search):
        climb = min(climb * exp(seconds / FASTER), FIRST_CLIMB)
    growth = min(climb * seconds, LARGEST_STEP)
    rate = search.rate * exp(growth)
    return replace(
        reviewed,
        rate=min(rate, highest),
        climb=climb if rate < highest else 0.0,
        speed=growth / seconds,
        changed_at=now,
    )


def _recall_refused_climb(search: Search) -> RefusedClimb:
    """Return the climb that was refused before this one; its rate is 0 where none tells of this limit."""
    return RefusedClimb(search.refused_rate, search.refused_climb)


def _is_limit_higher(search: Search) -> bool:
    """Whether the rate is where a climb should have been refused: the limit has risen, or what was refused before was
    refused by chance."""
    if not search.ceiling:
        return 0 < search.refused_rate < search.rate
    carried = predict_overshoot(search.ceiling, _recall_refused_climb(search), PROBING_CLIMB)
    return search.rate > search.ceiling * (1 + max(CARRIED * carried, BEYOND))


def _search_from_below(search: Search, rate: float) -> Search:
    """Begin a climb from further down, after a rate was refused at once: it was far above the limit, nobody knows how
    far."""
    return replace(
        search,
        rate=rate * FALL,
        climb=CLIMB_AFTER_FALL,
        ceiling=0.0,
        refused_rate=0.0,
        refused_climb=0.0,
        drop=0.0,
        has_fallen=search.has_fallen or search.ceiling > 0,
    )


def _narrow_down(search: Search, climb: RefusedClimb, lasted: float) -> Search:
    """Climb once more, slower, after a climb met the limit; or stay below the limit, once it is known well enough."""
    was_known = search.ceiling > 0
    began_below = search.climb > STEEP_CLIMB or lasted > SURELY_BELOW
    limit = estimate_limit(climb, _recall_refused_climb(search), began_below=began_below)
    found = replace(search, refused_rate=climb.rate, refused_climb=climb.speed, drop=0.0)
    if climb.rate / limit - 1 > PRECISE:
        slower = min(max(climb.speed / SLOWER, log(climb.rate / limit) / BACK_WITHIN), NARROWING_CLIMB)
        has_fallen = search.has_fallen or was_known
        return replace(found, rate=limit, climb=slower, ceiling=0.0, has_fallen=has_fallen)
    wait = PROBE_AFTER_FALL if search.has_fallen or was_known else PROBE_AFTER
    found = replace(found, ceiling=limit)
    return hold_rate(replace(found, rate=found.rate_below_ceiling), wait)
