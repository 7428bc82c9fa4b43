"""Limits that count over many seconds, and services that refuse everything for a while. Pure; times are in seconds,
rates in requests a second.

A count that is used up refuses everything until it begins anew. Where `Retry-After` does not say when that is, the
first request after a hold is refused again; then few requests ask, *knock*, until one is let through."""

from __future__ import annotations

from dataclasses import replace

from worker.pace.refusals import Refusal
from worker.pace.search import LOWEST_RATE, PROBE_AFTER, STEP, Search, hold_rate, restart_counting
from worker.pace.stays import LONGER_WAIT, LONGEST_PROBE_WAIT, WIDE, compute_drop, stay_below

# Requests a second that ask whether it is open again.
KNOCKS = LOWEST_RATE
# Seconds between two of them grow to this part of the time since it closed, …
KNOCK_PART = 0.25
# … and to so many at the most.
LONGEST_KNOCK_WAIT = 15.0
# Where it is taken to have opened, between two knocks.
OPENED_PART = 0.4
# Seconds. No count is taken to be over more; what is closed for longer is out of order.
LONGEST_PERIOD = 75.0
# Seconds by which holds must differ to show that they last until a count begins anew.
OTHER_HOLD = 1.5
# Seconds. Where no hold is longer than this, they tell nothing of a count.
LONG_HOLD_TOLD = 6.0
# A count that was used up sooner than this part of its period tells nothing of it.
WHOLE = 0.9
# A climb from after it closed, where nothing else is known.
CLIMB_AFTER_CLOSED = 0.07


def is_closed(search: Search, slot: float, count: int) -> bool:
    """Whether the first request after a hold was refused: then nothing is let through, whatever the rate."""
    is_first = count == 0 and search.since == search.begun_at
    return is_first and search.held < LONGEST_PERIOD * 2 and slot - search.begun_at < max(3 / search.rate, STEP)


def knock(search: Search, slot: float, resumes_at: float) -> Search:
    """Ask rarely whether it is open again."""
    closed_since = search.closed_since or search.refused_at
    open_rate = search.open_rate or search.lasting_rate
    if search.open_rate and not search.closed_since:
        # It closed as soon as it had opened: that rate is far too high.
        open_rate = max(search.open_rate / 2, LOWEST_RATE)
        search = replace(search, climb=CLIMB_AFTER_CLOSED, expected=0.0, ceiling=0.0, refusals=())
    wait = min(KNOCK_PART * (slot - closed_since), LONGEST_KNOCK_WAIT)
    begun_at = max(resumes_at, slot + wait)
    knocking = restart_counting(replace(search, rate=min(KNOCKS, open_rate)), begun_at, begun_at - slot)
    return replace(knocking, refused_at=slot, knock_at=slot + wait, closed_since=closed_since, open_rate=open_rate)


def open_again(search: Search, last: float, since: float) -> Search:
    """Go on after a knock was let through, at the slot `last`. What was sent before, over the time until then, is the
    limit, if that counts over many seconds; if it was out of order, nothing was learnt."""
    opened = restart_counting(replace(search, rate=search.open_rate), since, since - search.refused_at)
    # It opened between the last knock that was refused and this one, rather soon: a rate that is too high is corrected
    # when the count is used up again, one that is too low is not.
    closed = search.refused_at + OPENED_PART * (last - search.refused_at) - search.closed_since
    former = search.refusals[-1] if search.refusals else None
    if former and (search.period or not search.ceiling) and former.lasted + closed < LONGEST_PERIOD:
        return replace(settle_period(opened, former, closed), open_rate=search.open_rate)
    staying = opened if opened.climb else hold_rate(opened, opened.probe_after)
    return replace(staying, open_rate=search.open_rate)


def is_period(search: Search, refusal: Refusal) -> bool:
    """Whether the limit counts over many seconds: because it was seen to, or because holds end when it begins anew."""
    is_short = refusal.lasted + refusal.hold < LONGEST_PERIOD
    return search.period > 0 or (is_short and _differ((*search.refusals[-1:], refusal)))


def find_closed(refusals: tuple[Refusal, ...]) -> float:
    """Find for how many seconds the count was used up, the last time: until the hold ended if holds last as long as
    that, otherwise until some time before. Holds have whole seconds."""
    hold = refusals[-1].hold
    return hold - 0.5 if _differ(refusals) and hold > 0.5 else hold / 2


def settle_period(search: Search, refusal: Refusal, closed: float) -> Search:
    """Stay where a count over many seconds is just used up when it begins anew.

    It was used up by what was sent before the refusal, and closed for so many seconds after it."""
    known, period = search.period, refusal.lasted + closed
    limit, drop = refusal.sent / period, 0.0
    wait = PROBE_AFTER
    if known and (refusal.lasted >= known or period < WHOLE * known):
        # When the count began is not known.
        drop = compute_drop(search, refusal.lasted, refusal.hold)
        limit, period = max(limit, search.ceiling * (1 - drop)), known
    if known and search.climb and limit < (1 + WIDE) * search.ceiling:
        wait = min(LONGER_WAIT * search.probe_after, LONGEST_PROBE_WAIT)
    return replace(stay_below(replace(search, period=period), limit, 0.0, wait), drop=drop)


def _differ(refusals: tuple[Refusal, ...]) -> bool:
    """Whether holds differ by so much that they end when a count begins anew. Short ones may differ by chance."""
    holds = [refusal.hold for refusal in refusals]
    return max(holds) > LONG_HOLD_TOLD and max(holds) - min(holds) > OTHER_HOLD
