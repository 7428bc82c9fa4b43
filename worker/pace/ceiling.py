"""pingone: how the pace finds the license's limit. Pure: a state and an event give the next state.

No limit is published, and no answer says how much of it is left, so it is found by meeting it: the rate climbs until a
request is refused. What stands in the way of an exact answer is the burst that a limit forgives. A climb at relative
speed c (a second) passes a limit L that forgives B requests by about the fraction √(2·c·B/L), so

- the first climb is steep, each one after a refusal slower, and begins below what the last can have passed;
- two climbs of different speed tell the limit: the refused rates, drawn over the root of the speed, lie on a line,
  which meets speed 0 at the limit;
- once that is known well enough, the rate stays just below. It climbs again, slowly, to see whether the limit has
  risen, and rarely, since a refusal costs what `Retry-After` asks for; the longer nothing was found, the more rarely.

Only answers to slots of the present rate count, and only if they show that the rate was used: what nobody sends finds
no limit. Refusals of slots from before the last refusal are part of it. Times are in seconds of one clock, rates in
requests a second. How this differs from others: docs/decisions/0010-finding-the-ceiling.md."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

from worker.pace.bursts import MOST, Climb, limit_of, passing
from worker.pace.search import MARGIN, PROBE_AFTER, RISE, Search, begun, staying

# Relative growth of the rate a second: what is steep; of later climbs; from far below; of one that looks for more.
STEEP, NARROW, AFTER_FALL, PROBE = 0.2, 0.08, 0.13, 0.009
# Each climb after a refusal is so much slower than the one that was refused.
SLOWER = 4
# The part of the slots that must have been used.
USED = 0.85
# What becomes of a rate that was refused before it had lasted.
FALL = 0.7
# Seconds for which a rate must have been used for its refusal to tell more than that it was too high.
LASTING = 1.0
# A climb that lasted for longer had begun below the limit, or hardly above it.
SURELY_BELOW = 2.0
# A rate that was refused while it stayed is lowered by so much, divided by the seconds that it had lasted: a refusal
# costs a second, so that the sooner the next one is to come the more is worth giving up for it.
DROP, SMALLEST_DROP = 0.06, 0.005
# A drop that leaves much room for the limit above it.
WIDE_DROP = 0.05
# Seconds: refused again so soon, a rate was lowered by too little; and by how much longer it must have lasted than the
# one before for the difference to tell the burst.
SOON, LONGER = 3.0, 1.2
# In which a climb comes from where it begins to where the last one was refused.
BACK_WITHIN = 12.0
# How close to the ceiling a refused rate tells it well enough.
PRECISE = 0.066
# Seconds until the rate climbs again after a limit was seen to fall: it may well rise again. The wait grows up to:
PROBE_AFTER_FALL, LONGEST_PROBE_WAIT = 15.0, 3600.0
# A refusal so little above the ceiling finds nothing new: a burst alone carries a slow climb as far.
NOTHING_NEW = 1.12
# A climb that has come so much further above the ceiling than a burst carries it, and so far at the least, has found
# more. It speeds up, e-fold in so many seconds.
CARRIED, BEYOND, FASTER = 1.2, 0.05, 1.0
# Of one step, as the logarithm of its growth, so that slow answers, which make for long steps, make for no wild ones.
LARGEST_STEP = 0.4
# Seconds: clocks that went back, and slots that came at once, count for as much.
SHORTEST = 0.001


def answered(search: Search, count: int, last: float, now: float, highest: float, next_slot: float) -> Search:
    """After `count` answers to slots since `search.since`, the last of them at `last`. No rate is above `highest`. The
    slots before `next_slot` are given out already: a rate that changes is not theirs."""
    if last < search.look_at:
        return search
    looked = replace(search, since=max(now, next_slot))
    if search.is_fixed:
        return looked
    if search.rate > highest:
        # A person may have lowered it since.
        return replace(looked, rate=highest, changed_at=now)
    if count < USED * search.rate * (last - search.since):
        return replace(looked, changed_at=now)
    if search.is_shared:
        highest = min(highest, search.stay)
    if search.climb:
        return _climbed(search, looked, now, highest)
    is_due = now >= search.probe_at and search.rate < highest
    probing = replace(search, climb=PROBE)
    return begun(probing, looked.since) if is_due else looked


def refused(search: Search, rate: float, slot: float, count: int, resumes_at: float) -> Search:
    """After a request that had its slot at this rate was refused; `count` as for `answered`. Nothing goes out before
    `resumes_at`."""
    if slot < search.begun_at or search.is_fixed:
        return search
    resumed = begun(search, resumes_at)
    has_answers = count > 0 or search.since > search.begun_at
    if not has_answers:
        # Refused whatever the rate: it tells nothing.
        return resumed
    rate, lasted = min(rate, search.rate), max(slot - search.begun_at, SHORTEST)
    if search.is_shared:
        # We are not alone: make room, and come back when it is free again.
        return staying(replace(resumed, rate=rate * FALL), PROBE_AFTER_FALL)
    if lasted < LASTING and search.climb != RISE and (search.climb or search.drop):
        return _fallen(resumed, rate)
    if not search.climb:
        return _lowered(resumed, rate, lasted)
    climb = Climb(rate, search.speed or search.climb)
    if search.ceiling and rate < NOTHING_NEW * search.ceiling:
        wait = search.probe_after * (1.5 if search.has_fallen else 2.0)
        # The stay has lasted, so a little more may do; or more, by what the climbs tell.
        limit = limit_of(climb, _former(search), began_below=True, burst=MOST)
        ceiling = min(max(search.ceiling * 1.004, limit), rate)
        again = replace(resumed, ceiling=ceiling, drop=0.0)
        return staying(replace(again, rate=again.stay), min(wait, LONGEST_PROBE_WAIT))
    return _narrowed(resumed, climb, lasted)


def _climbed(search: Search, looked: Search, now: float, highest: float) -> Search:
    """A step further, by the time since the last one."""
    climb, seconds = search.climb, max(now - search.changed_at, SHORTEST)
    if _is_beyond(search):
        climb = min(climb * exp(seconds / FASTER), RISE)
    growth = min(climb * seconds, LARGEST_STEP)
    rate = search.rate * exp(growth)
    return replace(
        looked,
        rate=min(rate, highest),
        climb=climb if rate < highest else 0.0,
        speed=growth / seconds,
        changed_at=now,
    )


def _former(search: Search) -> Climb:
    return Climb(search.refused_rate, search.refused_climb)


def _is_beyond(search: Search) -> bool:
    """Where a slower climb should not have come: the limit has risen, or what was refused was a chance."""
    if not search.ceiling:
        return 0 < search.refused_rate < search.rate
    carried = passing(search.ceiling, _former(search), PROBE)
    return search.rate > search.ceiling * (1 + max(CARRIED * carried, BEYOND))


def _fallen(search: Search, rate: float) -> Search:
    """Far above the limit, nobody knows how far: look for it from further down."""
    return replace(
        search,
        rate=rate * FALL,
        climb=AFTER_FALL,
        ceiling=0.0,
        refused_rate=0.0,
        refused_climb=0.0,
        drop=0.0,
        has_fallen=search.has_fallen or search.ceiling > 0,
    )


def _lowered(search: Search, rate: float, lasted: float) -> Search:
    """A little above the limit, and the less the longer it took to be refused."""
    drop = max(DROP / max(lasted, LASTING), SMALLEST_DROP)
    if search.drop and lasted > LONGER * search.lasted:
        # Twice a burst was used up, the second time more slowly: B = (rate - L) · lasted.
        former = rate / (1 - search.drop)
        burst = (former - rate) / (1 / search.lasted - 1 / lasted)
        drop = min(max(burst / lasted / rate, SMALLEST_DROP), 0.1)
    elif search.drop and lasted < SOON:
        # As soon as before, though lower: far above.
        drop = min(2 * search.drop, 0.25)
    elif search.drop and lasted < search.lasted:
        # Sooner than before, though lower: by chance.
        drop = SMALLEST_DROP
    ceiling = rate * (1 - drop) / MARGIN
    lowered = replace(search, rate=rate * (1 - drop), drop=drop, lasted=lasted, ceiling=ceiling)
    if drop < WIDE_DROP:
        return lowered
    # It may well be too low now, so it climbs again soon; and what was refused before tells of another limit.
    probe_at = min(search.probe_at, search.begun_at + PROBE_AFTER_FALL)
    return replace(lowered, probe_at=probe_at, refused_rate=0.0, refused_climb=0.0)


def _narrowed(search: Search, climb: Climb, lasted: float) -> Search:
    """A climb met the limit: once more, slower, or stay below it."""
    was_known = search.ceiling > 0
    limit = limit_of(climb, _former(search), began_below=search.climb > STEEP or lasted > SURELY_BELOW)
    found = replace(search, refused_rate=climb.rate, refused_climb=climb.speed, drop=0.0)
    if climb.rate / limit - 1 > PRECISE:
        slower = min(max(climb.speed / SLOWER, log(climb.rate / limit) / BACK_WITHIN), NARROW)
        has_fallen = search.has_fallen or was_known
        return replace(found, rate=limit, climb=slower, ceiling=0.0, has_fallen=has_fallen)
    wait = PROBE_AFTER_FALL if search.has_fallen or was_known else PROBE_AFTER
    found = replace(found, ceiling=limit)
    return staying(replace(found, rate=found.stay), wait)
