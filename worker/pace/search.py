"""How the pace finds the license's limit. Pure: a state and an event give the next state.

No limit is published, and no answer says how much of it is left, so it is found by meeting it. *Slow start*: the rate
climbs fast until a request is refused. *Probe*: a slower climb tells limit and burst apart (worker.pace.token_bucket).
*Hold*: the rate stays just below the limit; what a bucket has gained while nothing was sent is spent in a *sprint*.
*Multiplicative decrease*: a rate that is refused while it stays is lowered. Long after that, slow climbs see whether
the limit has risen; rarely, since a refusal costs what `Retry-After` asks for.

What counts is what was sent on slots; a rate at which nobody sends finds no limit and climbs no further. Refusals of
slots from before the last refusal are part of it. Times are in seconds of one clock, rates in requests a second. How
this differs from others: docs/decisions/0007-a-pace-in-redis.md."""

from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt

from worker.pace.token_bucket import (
    Estimate,
    Leg,
    Path,
    Refusal,
    add_leg,
    add_refusal,
    count_refusals,
    count_sent,
    explain,
    find_level,
    find_limit,
    forget_before,
    read_refusals,
    split_spans,
)

# Relative growth of the rate a second in the first climb.
FIRST_CLIMB = 0.8
# Requests a second. Refusals lower no rate below this: what is refused at it is not refused for its rate.
LOWEST_RATE = 2.0
# Where the rate stays, as a part of the ceiling.
PART_OF_CEILING = 0.995
# Seconds. No hold is shorter.
LEAST_HELD = 0.001
# Seconds until the rate climbs again, to see whether the limit has risen, where a refusal wastes a second.
PROBE_AFTER = 30.0
# Seconds between two reviews of a rate that climbs or sprints, at the least.
STEP = 0.1
# Relative growth of the rate between two reviews of a climb.
GROWTH_A_REVIEW = 0.005
# Refusals that tell the limit well enough: more tell hardly more.
ENOUGH_REFUSALS = 3
# The part of the slots that must have been used for the rate to move.
USED = 0.8
# What is left of a share of the limit when it is refused, since others use the limit too.
ROOM_FOR_OTHERS = 0.7
# Seconds. No hold counts as longer: beyond that the clock was set, or an answer came very late.
LONGEST_HELD = 300.0
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
# How much one step grows at the most, as a logarithm: slow answers make for long steps, which must not be wild ones.
LARGEST_STEP = 0.4
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


@dataclass(frozen=True, slots=True)
class Search:
    """How far the search for the limit has come. Redis keeps the fields by these names.

    A *span* is the time from when the fleet could send until it is refused."""

    # Requests a second.
    rate: float
    # Relative growth of the rate a second; 0 while the rate stays.
    climb: float = FIRST_CLIMB
    # A climb that comes further than this has found that what was known is wrong; 0 where nothing is known.
    expected: float = 0.0
    # When this span began.
    begun_at: float = 0.0
    # The rate is what it is from this slot on. Answers and slots from here on are counted for the next review.
    since: float = 0.0
    # What was sent and refused so far, up to `since`.
    path: Path = ()
    # The last slot that was refused; 0 until one was.
    refused_at: float = 0.0
    # Where the limit was found; 0 until it is known.
    ceiling: float = 0.0
    # Requests that the limit forgives at once; 0 where that is not known, or where it forgives none.
    burst: float = 0.0
    # Seconds over which the limit counts, if that is many; otherwise 0.
    period: float = 0.0
    # By which part the rate was lowered last while it stayed.
    drop: float = 0.0
    # While the rate stays: when it climbs again.
    probe_at: float = 0.0
    # Seconds that it waits for that.
    probe_after: float = PROBE_AFTER
    # While the first request after each hold is refused again: since when; otherwise 0.
    closed_since: float = 0.0
    # Nothing goes out before this, to ask whether it is open again.
    knock_at: float = 0.0
    # The rate from before it closed, until the first review after it opened; otherwise 0.
    open_rate: float = 0.0
    # The part of the ceiling that is ours, above 0 up to 1.
    share: float = 1.0
    # Whether a person has set the rate: then it does not move.
    is_fixed: bool = False

    @property
    def review_due_at(self) -> float:
        """When the rate is to be reviewed next: once a slot from here on was answered. After 1 s while the rate
        stays."""
        if self.closed_since:
            return self.since
        if self.climb:
            return self.since + max(STEP, GROWTH_A_REVIEW / self.climb)
        return self.since + (STEP if self.is_sprinting else 1.0)

    @property
    def is_sprinting(self) -> bool:
        """Whether the rate is above the ceiling for a moment, to spend what a bucket has gained."""
        return not (self.climb or self.is_fixed or self.closed_since) and 0 < self.ceiling < self.rate

    @property
    def is_shared(self) -> bool:
        """Whether we are to use a part only of a ceiling that is known."""
        return self.share < 1 and self.ceiling > 0

    @property
    def rate_below_ceiling(self) -> float:
        """The rate to stay at, just below our share of the ceiling."""
        return self.ceiling * PART_OF_CEILING * self.share

    @property
    def lasting_rate(self) -> float:
        """The rate without what is done for a moment: a sprint, or knocking."""
        if self.closed_since:
            return self.open_rate
        return self.rate_below_ceiling if self.is_sprinting else self.rate

    @property
    def lowest_rate(self) -> float:
        """The rate below which a refusal does not lower it."""
        return min(LOWEST_RATE, self.rate)


def set_share(search: Search, share: float, now: float) -> Search:
    """Keep to this part of the ceiling, 0 < share ≤ 1, as soon as the ceiling is known."""
    changed = replace(search, share=share)
    if not search.ceiling:
        return changed
    return hold_rate(restart_counting(replace(changed, rate=changed.rate_below_ceiling), now), PROBE_AFTER)


def fix_rate(search: Search, rate: float, now: float) -> Search:
    """Stay at this rate, whatever is answered or refused."""
    return restart_counting(replace(search, rate=rate, is_fixed=True), now)


def free_rate(search: Search, now: float) -> Search:
    """Search for the limit again, from the present rate; all but the share is forgotten."""
    return restart_counting(Search(search.lasting_rate, share=search.share), now)


def resume_below_ceiling(ceiling: float, share: float, now: float) -> Search:
    """Begin where an earlier search ended: just below the ceiling that it found."""
    known = Search(0.0, ceiling=ceiling, share=share)
    return hold_rate(restart_counting(replace(known, rate=known.rate_below_ceiling), now), PROBE_AFTER)


def restart_counting(search: Search, now: float, path: Path = ()) -> Search:
    """Begin a span: only what is answered or refused from now on tells of the rate as it is now. What was sent and
    refused before is forgotten, except for this path."""
    return replace(search, begun_at=now, since=now, path=path, closed_since=0.0, open_rate=0.0)


def resume(search: Search, now: float, hold: float) -> Search:
    """Begin a span after nothing was sent for `hold` seconds."""
    return restart_counting(search, now, add_leg(search.path, Leg(max(hold, LEAST_HELD), 0.0)))


def go_on(search: Search, sent: float, now: float) -> Search:
    """Count what was sent since the rate was reviewed last."""
    return replace(search, path=add_leg(search.path, Leg(now - search.since, sent)), since=now)


def hold_rate(search: Search, seconds: float) -> Search:
    """Stay at the present rate for so many seconds, counted from when this span began; then climb again."""
    return replace(search, climb=0.0, expected=0.0, probe_after=seconds, probe_at=search.begun_at + seconds)


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
        return replace(go_on(search, slots, since), rate=highest)
    is_used = slots + 1 >= USED * search.rate * (since - search.since)
    reviewed = replace(go_on(search, slots, since), open_rate=0.0)
    if search.climb:
        return climb_further(search, reviewed, now - last, highest) if is_used else reviewed
    if search.is_shared:
        highest = min(highest, search.rate_below_ceiling)
    is_due = now >= search.probe_at and search.rate < highest and is_used and not search.is_sprinting
    return probe(reviewed) if is_due else sprint(reviewed, highest)


def learn_from_refusal(search: Search, rate: float, slot: float, count: int, resumes_at: float) -> Search:
    """Move the rate after a request was refused that had its slot at this rate, at the time `slot`.

    `count` answers have come to slots since `search.since`. Nothing goes out before `resumes_at`."""
    if search.is_fixed:
        return search
    if slot < search.begun_at:
        return _prolong_hold(search, slot, resumes_at)
    if is_closed(search, slot, count):
        return knock(search, slot, resumes_at)
    path = add_refusal(search.path, slot - search.since, rate)
    resumed = resume(replace(search, path=path, refused_at=slot), resumes_at, _bound_hold(resumes_at - slot))
    if search.is_shared:
        # Where the whole ceiling has fallen, each climb back to the share is refused.
        wait = min(max(2 * search.probe_after, PROBE_AFTER_FALL), LONGEST_PROBE_WAIT)
        return hold_rate(replace(resumed, rate=max(rate * ROOM_FOR_OTHERS, search.lowest_rate)), wait)
    refusals = read_refusals(resumed.path)
    if is_period(search, refusals):
        return _learn_period(resumed, refusals)
    was_idle = _was_idle(split_spans(path)[-2], search.ceiling, SOON * refusals[-1].hold)
    if search.ceiling and (was_idle or not search.climb):
        return lower_stay(resumed, refusals[-1], was_idle=was_idle)
    return narrow_down(resumed, refusals[-1], rate)


def _bound_hold(seconds: float) -> float:
    return min(max(seconds, LEAST_HELD), LONGEST_HELD)


def _prolong_hold(search: Search, slot: float, resumes_at: float) -> Search:
    """Begin this span later: a slot from before it was refused too."""
    refused_at, begun_at = max(search.refused_at, slot), max(resumes_at, search.begun_at)
    if (refused_at, begun_at) == (search.refused_at, search.begun_at):
        return search
    since_then = split_spans(search.path)[-1]
    before = search.path[: len(search.path) - len(since_then)]
    resumed = resume(replace(search, path=before), begun_at, _bound_hold(begun_at - refused_at))
    return replace(
        resumed,
        refused_at=refused_at,
        probe_at=search.probe_at + begun_at - search.begun_at,
        closed_since=search.closed_since,
        open_rate=search.open_rate,
    )


def _was_idle(span: Path, rate: float, seconds: float) -> bool:
    """Whether the fleet has left slots unused in the last seconds of a span, as where its machine stands still for
    moments, or had not begun yet."""
    for leg in reversed(span):
        if leg.sent < USED * rate * leg.seconds:
            return leg is not span[0]
        seconds -= leg.seconds
        if seconds <= 0:
            return False
    return True


def _learn_period(search: Search, refusals: list[Refusal]) -> Search:
    """Stay below a limit that counts over many seconds."""
    refusal = refusals[-1]
    if search.period and refusal.lasted > search.period:
        span = split_spans(search.path)[-2]
        refusal = refusal._replace(sent=max(count_sent(span, search.period), 1.0), lasted=search.period)
    if not search.period:
        # The longest tells most.
        longest = max(refusals, key=lambda refusal: refusal.lasted + refusal.hold)
        return settle_period(search, longest, longest.hold - 0.5)
    return settle_period(search, refusal, find_closed(refusals))


def climb_further(search: Search, reviewed: Search, trip: float, highest: float) -> Search:
    """Raise the rate by one step of its climb, for the time since the last step; an answer takes `trip` seconds."""
    climb, seconds = search.climb, reviewed.since - search.since
    if search.expected and search.rate > search.expected:
        climb = max(climb, min(RISEN_CLIMB * (search.rate / search.expected) ** 2, FIRST_CLIMB))
    if not count_refusals(search.path):
        lasted = count_sent(reviewed.path) / search.rate
        climb = min(climb, max(FIRST_REACH / max(lasted, STEP), SLOW_CLIMB))
    climb = min(climb, max(GROWTH_A_ROUND_TRIP / max(trip, 0.001), SLOW_CLIMB))
    rate = search.rate * exp(min(climb * seconds, LARGEST_STEP))
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
        return replace(search, climb=SECOND_CLIMB)
    carried = sqrt(2 * PROBING_CLIMB * search.burst / search.ceiling) + 1.5 * PROBING_CLIMB * search.period
    return replace(search, climb=PROBING_CLIMB, expected=search.ceiling * exp(BEYOND + 1.1 * carried))


def narrow_down(search: Search, refusal: Refusal, rate: float) -> Search:
    """Climb once more, more slowly, to tell limit and burst apart; or stay below the limit, once it is known well
    enough."""
    path, estimate = explain(search.path, search.burst)
    known = replace(search, path=path)
    number = count_refusals(path)
    if number == 1 and not search.burst:
        start = max(find_limit(path, 0.0, LIKELY_BURST), LEAST_START * rate)
        # The first climb may have been slow, because answers were: so fast it was.
        first_climb = rate / refusal.sent
        climb = min(SECOND_CLIMB, max(first_climb / SLOWER, SLOWEST_CLIMB))
        return _climb_from(known, start, climb, estimate)
    wasted = compute_waste(refusal.hold, estimate.burst / estimate.limit)
    if number >= ENOUGH_REFUSALS or log(estimate.high / estimate.limit) * WORTH <= wasted:
        return settle(known, refusal.hold, estimate)
    climb = min(max((log(estimate.high / estimate.low) + 0.02) / PASSED_WITHIN, SLOWEST_CLIMB), SECOND_CLIMB)
    return _climb_from(known, max(0.98 * estimate.low, LEAST_PART * estimate.limit), climb, estimate)


def _climb_from(search: Search, rate: float, climb: float, estimate: Estimate) -> Search:
    expected = estimate.high * exp(BEYOND + sqrt(2 * climb * estimate.burst / estimate.limit))
    rate = max(rate, search.lowest_rate)
    return replace(search, rate=rate, climb=climb, expected=expected, ceiling=0.0, drop=0.0)


def compute_waste(hold: float, burst: float) -> float:
    """Compute how many seconds of the limit a hold wastes: a bucket is filled meanwhile, and that is spent later."""
    return max(hold - SPENT * min(burst, hold), LEAST_WASTE)


def settle(search: Search, hold: float, estimate: Estimate) -> Search:
    """Stay below the limit that climbs have told."""
    burst = 0.0 if estimate.is_count else estimate.burst
    wasted = compute_waste(hold, burst / estimate.limit)
    limit = estimate.low if hold > LONG and not estimate.is_count else estimate.limit
    limit *= 1 - CAUTION * wasted
    finds_nothing = search.ceiling > 0 and limit < (1 + WIDE) * search.ceiling
    wait = min(LONGER_WAIT * search.probe_after, LONGEST_PROBE_WAIT) if finds_nothing else PROBE_AFTER * wasted
    return stay_below(search, limit, burst, wait)


def lower_stay(search: Search, refusal: Refusal, *, was_idle: bool) -> Search:
    """Lower a rate that stayed and was refused: to what the refusal tells, and by some part at the least.

    `was_idle`: the fleet had not used its slots before this span, as where its machine stands still for moments; what
    then leaves at once may be refused whatever the limit is."""
    known, estimate = _learn_again(search)
    drop = compute_drop(search, refusal.lasted, refusal.hold)
    limit = min(estimate.limit, max(search.ceiling * (1 - drop), estimate.low))
    if was_idle:
        limit = max(limit, search.ceiling * (1 - WIDE))
    if limit >= (1 - WIDE) * search.ceiling:
        lowered = stay_below(known, limit, known.burst, search.probe_after)
        probe_at = max(search.probe_at, search.begun_at + PROBE_AFTER / 4)
        return replace(lowered, drop=1 - limit / search.ceiling, probe_at=probe_at)
    # The limit has fallen, so what was refused before tells nothing of it.
    limit = max(limit, search.ceiling * (1 - LARGEST_DROP))
    return stay_below(
        replace(search, path=forget_before(search.path)), limit, known.burst, PROBE_AFTER_FALL * max(refusal.hold, 1.0)
    )


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
    return sprint(hold_rate(replace(found, rate=found.rate_below_ceiling), wait), inf)


def sprint(search: Search, highest: float) -> Search:
    """Stay above the ceiling for a moment, while a bucket has gained what is worth it; or else where the rate is to
    stay."""
    if search.is_shared or not search.burst or search.rate < search.rate_below_ceiling:
        return search
    spare = SPENT * search.burst - find_level(search.path, search.ceiling, search.burst)
    is_worth_it = spare > (0.0 if search.is_sprinting else SMALLEST_GAIN * search.ceiling)
    rate = search.ceiling * SPRINT if is_worth_it else search.rate_below_ceiling
    return replace(search, rate=min(rate, highest))


def _learn_again(search: Search) -> tuple[Search, Estimate]:
    """Estimate the limit again, after it was refused while the rate stayed. Ask once more whether it is a bucket, where
    it was taken for a count that forgives nothing."""
    path, estimate = explain(search.path, search.burst)
    known = replace(search, path=path)
    is_first = not search.drop
    is_known = search.burst > 0 or not (is_first and estimate.limit < (1 - WIDE) * search.ceiling)
    if estimate.is_count or count_refusals(path) == 1 or not is_known:
        limit = estimate.limit if search.burst else search.ceiling
        return known, replace(estimate, limit=limit, low=0.0)
    return replace(known, burst=estimate.burst), estimate


def is_closed(search: Search, slot: float, count: int) -> bool:
    """Whether the first request after a hold was refused: then nothing is let through, whatever the rate."""
    is_first = count == 0 and search.since == search.begun_at
    return (
        is_first
        and search.refused_at > 0
        and search.begun_at - search.refused_at < LONGEST_PERIOD * 2
        and slot - search.begun_at < max(3 / search.rate, STEP)
    )


def knock(search: Search, slot: float, resumes_at: float) -> Search:
    """Ask rarely whether it is open again."""
    closed_since = search.closed_since or search.refused_at
    open_rate = search.open_rate or search.lasting_rate
    if search.open_rate and not search.closed_since:
        # It closed as soon as it had opened: that rate is far too high.
        open_rate = max(search.open_rate / 2, LOWEST_RATE)
        search = replace(search, climb=CLIMB_AFTER_CLOSED, expected=0.0, ceiling=0.0, path=())
    wait = min(KNOCK_PART * (slot - closed_since), LONGEST_KNOCK_WAIT)
    begun_at = max(resumes_at, slot + wait)
    knocking = restart_counting(replace(search, rate=min(KNOCKS, open_rate)), begun_at, search.path)
    return replace(knocking, refused_at=slot, knock_at=slot + wait, closed_since=closed_since, open_rate=open_rate)


def open_again(search: Search, last: float, since: float) -> Search:
    """Go on after a knock was let through, at the slot `last`. What was sent before, over the time until then, is the
    limit, if that counts over many seconds; if it was out of order, nothing was learnt."""
    opened = restart_counting(replace(search, rate=search.open_rate), since)
    # It opened between the last knock that was refused and this one, rather soon: a rate that is too high is corrected
    # when the count is used up again, one that is too low is not.
    closed = search.refused_at + OPENED_PART * (last - search.refused_at) - search.closed_since
    former = next(reversed(read_refusals(search.path)), None)
    is_told = search.period or not (search.ceiling or search.open_rate <= 2 * KNOCKS)
    if former and is_told and former.lasted + closed < LONGEST_PERIOD:
        return replace(settle_period(opened, former, closed), open_rate=search.open_rate)
    staying = opened if opened.climb else hold_rate(opened, opened.probe_after)
    return replace(staying, open_rate=search.open_rate)


def is_period(search: Search, refusals: list[Refusal]) -> bool:
    """Whether the limit counts over many seconds: because it was seen to, or because holds end when it begins anew."""
    is_short = refusals[-1].lasted + refusals[-1].hold < LONGEST_PERIOD
    return search.period > 0 or (is_short and _differ(refusals[-2:]))


def find_closed(refusals: list[Refusal]) -> float:
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


def _differ(refusals: list[Refusal]) -> bool:
    """Whether holds differ by so much that they end when a count begins anew. Short ones may differ by chance."""
    holds = [refusal.hold for refusal in refusals]
    return max(holds) > LONG_HOLD_TOLD and max(holds) - min(holds) > OTHER_HOLD
