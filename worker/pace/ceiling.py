"""How the pace finds the license's limit. Pure: a state and an event give the next state.

No limit is published, and no answer says how much of it is left, so it is found by meeting it: the rate climbs until a
request is refused. A refusal tells limit and burst together (worker.pace.refusals); two climbs, a fast one and a slow
one, tell each of them (worker.pace.estimates). Then the rate stays just below the limit (worker.pace.stays). It climbs
again, slowly, to see whether the limit has risen, and rarely, since a refusal costs what `Retry-After` asks for.

What counts is what was sent on slots, as long as the slots are used: a rate at which nobody sends finds no limit.
Refusals of slots from before the last refusal are part of it. Times are in seconds of one clock, rates in requests a
second. How this differs from others: docs/decisions/0010-finding-the-ceiling.md."""

from __future__ import annotations

from dataclasses import replace

from worker.pace.climbs import climb_further, narrow_down, probe
from worker.pace.periods import find_closed, is_closed, is_period, knock, open_again, settle_period
from worker.pace.refusals import LONG_HOLD, Mark, Refusal, explain_refusal, find_sent, keep_refusal
from worker.pace.search import LEAST_HELD, STEP, Search, hold_rate, restart_counting, set_mark
from worker.pace.stays import LONGEST_PROBE_WAIT, PROBE_AFTER_FALL, SOON, lower_stay

# The part of the slots that must have been used for the rate to move.
USED = 0.8
# What is left of a share of the limit when it is refused, since others use the limit too.
ROOM_FOR_OTHERS = 0.7
# Seconds. No hold counts as longer: beyond that the clock was set, or an answer came very late.
LONGEST_HELD = 300.0


def learn_from_answers(search: Search, slots: int, last: float, now: float, highest: float, next_slot: float) -> Search:
    """Move the rate after an answer to a slot at `last`.

    Since `search.since` so many `slots` were given out, all before `next_slot`. No rate is above `highest`."""
    if last < search.review_due_at:
        return search
    since = max(now, next_slot, search.since)
    if search.is_fixed:
        return replace(search, since=since)
    if search.closed_since:
        return open_again(search, last, since)
    if search.rate > highest:
        # A person may have lowered the highest rate meanwhile.
        return restart_counting(replace(search, rate=highest), since)
    if slots + 1 < USED * search.rate * (since - search.since):
        return restart_counting(replace(search, rate=search.lasting_rate), since)
    reviewed = replace(search, sent=search.sent + slots, since=since, open_rate=0.0)
    if search.sprint_until:
        is_over = since + STEP / 2 >= search.sprint_until
        stay = min(search.rate_below_ceiling, highest)
        return replace(set_mark(reviewed), rate=stay, sprint_until=0.0) if is_over else reviewed
    if search.climb:
        return climb_further(search, reviewed, now - last, highest)
    if search.is_shared:
        highest = min(highest, search.rate_below_ceiling)
    is_due = now >= search.probe_at and search.rate < highest
    return probe(reviewed) if is_due else reviewed


def learn_from_refusal(search: Search, rate: float, slot: float, count: int, resumes_at: float) -> Search:
    """Move the rate after a request was refused that had its slot at this rate, at the time `slot`.

    `count` answers have come to slots since `search.since`. Nothing goes out before `resumes_at`."""
    if search.is_fixed:
        return search
    if slot < search.begun_at:
        return _prolong_hold(search, slot, resumes_at)
    if is_closed(search, slot, count):
        return knock(search, slot, resumes_at)
    lasted = max(slot - search.begun_at, 0.001)
    end = Mark(lasted, max(search.sent + (slot - search.since) * rate, 1.0))
    hold = _bound_hold(resumes_at - slot)
    refusal = explain_refusal(search.marks, end, search.held, hold)
    resumed = restart_counting(replace(search, refused_at=slot), resumes_at, hold)
    if search.is_shared:
        # Where the whole ceiling has fallen, each climb back to the share is refused.
        wait = min(max(2 * search.probe_after, PROBE_AFTER_FALL), LONGEST_PROBE_WAIT)
        return hold_rate(replace(resumed, rate=max(rate * ROOM_FOR_OTHERS, search.lowest_rate)), wait)
    if is_period(search, refusal):
        return _learn_period(resumed, refusal, end, search.marks)
    was_idle = search.held >= LONG_HOLD
    if search.ceiling and (not search.climb or (was_idle and lasted < SOON * hold)):
        return lower_stay(resumed, refusal, was_idle=was_idle)
    return narrow_down(resumed, refusal, rate)


def _bound_hold(seconds: float) -> float:
    return min(max(seconds, LEAST_HELD), LONGEST_HELD)


def _prolong_hold(search: Search, slot: float, resumes_at: float) -> Search:
    """Begin this span later: a slot from before it was refused too."""
    refused_at, begun_at = max(search.refused_at, slot), max(resumes_at, search.begun_at)
    if (refused_at, begun_at) == (search.refused_at, search.begun_at):
        return search
    later = begun_at - search.begun_at
    return replace(
        restart_counting(replace(search, refused_at=refused_at), begun_at, _bound_hold(begun_at - refused_at)),
        probe_at=search.probe_at + later,
        sprint_until=search.sprint_until and search.sprint_until + later,
        closed_since=search.closed_since,
        open_rate=search.open_rate,
    )


def _learn_period(search: Search, refusal: Refusal, end: Mark, marks: tuple[Mark, ...]) -> Search:
    """Stay below a limit that counts over many seconds."""
    if search.period and refusal.lasted > search.period:
        sent = end.sent - find_sent(marks, end, end.at - search.period)
        refusal = refusal._replace(sent=max(sent, 1.0), lasted=search.period)
    refusals = keep_refusal(search.refusals, refusal)
    known = replace(search, refusals=refusals)
    if not search.period:
        # The longest tells most.
        longest = max(refusals, key=lambda refusal: refusal.lasted + refusal.hold)
        return settle_period(known, longest, longest.hold - 0.5)
    return settle_period(known, refusal, find_closed(refusals))
