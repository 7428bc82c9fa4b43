"""How the pace finds the license's limit. Pure: a state and an event give the next state.

No limit is published, and no answer says how much of it is left, so it is found by running into it. *Slow start*: the
rate climbs fast until a request is refused, then slowly until the next refusal. The *walk* derives the limit and its
burst from what was sent until then. *Stay*: the rate stays just below the limit. *Probe*: a slow climb occasionally
tests whether the limit has risen; rarely, since a refusal costs what `Retry-After` asks for. *Knock*: if everything is
refused, a few requests test whether PingOne accepts requests again. The end of this module has the rates at which the
search begins for each group of calls, and the errors for a wait that ends without a slot.

Only requests that were sent on slots count; a rate that is not used climbs no further. Times are in seconds of one
clock, rates in requests a second. How this differs from other algorithms: docs/decisions/0007-a-pace-in-redis.md."""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, inf, sqrt
from typing import NamedTuple

# The walk finds the token bucket that explains what was accepted and refused. For each candidate limit, a bucket's
# level is simulated along the path: a request raises it, the limit drains it. A limit is possible if the highest
# accepted level is not above the lowest refused level, which is the burst.
# https://en.wikipedia.org/wiki/Leaky_bucket#As_a_meter

# Legs to keep, so that Redis stores little: more legs hardly improve the estimate.
KEPT_LEGS = 80
# Refusals to keep. For earlier ones, only the burst is kept.
KEPT_REFUSALS = 3
# Rates and limits that differ by less than this fraction count as equal.
SAME = 0.02
# Candidate limits in each of two rounds: down from the highest possible limit, then in finer steps among those that
# agree best.
TRIED = 160
# How much more than the best limit another may contradict the path and still count as equally good, in seconds of the
# limit.
AS_GOOD = 0.005
# Requests. The smallest burst of a limit, and the tolerance for levels: requests arrive in twos and threes.
LEAST_BURST = 4.0
# Seconds. A limit with longer waits is not a count that restarts each second.
COUNT_HOLD = 4.0


class Leg(NamedTuple):
    """A part of the path: a number of requests in a number of seconds, and whether the last of them was refused."""

    seconds: float
    sent: float
    is_refused: bool = False


Path = tuple[Leg, ...]


def add_leg(path: Path, leg: Leg) -> Path:
    """Add a leg to the path; it is merged with the last one if their rates hardly differ."""
    if leg.seconds <= 0:
        return path
    if path and not (leg.is_refused or path[-1].is_refused) and _is_same_rate(path[-1], leg):
        path, last = path[:-1], path[-1]
        leg = Leg(last.seconds + leg.seconds, last.sent + leg.sent)
    return (*path, leg)[-KEPT_LEGS:]


def add_refusal(path: Path, seconds: float, rate: float) -> Path:
    """Add the last `seconds` at this rate, up to a refused request. If `seconds` is negative, the path was already past
    that request: the excess is cut off."""
    while seconds < 0 and path:
        *before, last = path
        kept = max(last.seconds + seconds, 0.0)
        path = add_leg(tuple(before), last._replace(seconds=kept, sent=last.sent * kept / last.seconds))
        seconds = min(seconds + last.seconds, 0.0)
    if not seconds and path and path[-1].sent:
        return (*path[:-1], path[-1]._replace(is_refused=True))
    # At least one request.
    seconds = max(seconds, 1 / rate)
    return add_leg(path, Leg(seconds, rate * seconds, is_refused=True))


def count_refusals(path: Path) -> int:
    """Count the refusals of the path."""
    return sum(leg.is_refused for leg in path)


def count_sent(path: Path, seconds: float = inf) -> float:
    """Count the requests in the last `seconds` of the path."""
    sent = 0.0
    for leg in reversed(path):
        sent += leg.sent * min(max(seconds / leg.seconds, 0.0), 1.0)
        seconds -= leg.seconds
    return sent


def explain(path: Path, known: float) -> tuple[Path, float, float]:
    """Find the limit that explains the refusals of the path, and how many requests its burst has; also return the path
    without the part before a limit change. The path has at least one refusal. `known`: where the limit was found
    before, 0 if unknown."""
    limit = estimate_limit(path, known)
    count = find_count(path)
    while not count and count_refusals(path) > 1 and find_excess(path, limit) > 1:
        path = _forget_first(path)
        limit, count = estimate_limit(path, known), find_count(path)
    let, burst = walk(path, limit)
    if count_refusals(path) > KEPT_REFUSALS:
        # A bucket that has just refused has nothing left: the remaining path begins in this state.
        path = (Leg(1 / limit, max(burst, 1.0), is_refused=True), *_forget_first(_forget_first(path)))
    if count and (not known or let > burst):
        limit = count
    return path, limit, burst


def estimate_limit(path: Path, known: float = 0.0) -> float:
    """Estimate the limit that best explains all refusals of the path: of equally good ones, the known limit or the one
    nearest to it; the middle one if no limit is known."""
    highest = high = _find_highest(path)
    step = 1 + SAME
    for _ in range(2):
        tried = [high / step**number for number in range(TRIED)]
        contradictions = [(let - refused) / limit for limit in tried for let, refused in [walk(path, limit)]]
        enough = min(contradictions) + AS_GOOD
        good = [limit for limit, found in zip(tried, contradictions, strict=True) if found <= enough]
        high = min(good[0] * step, highest)
        step = (high * step / good[-1]) ** (1 / TRIED)
    return min(max(known, good[-1]), good[0]) if known else sqrt(good[0] * good[-1])


def find_limit(path: Path, seconds: float) -> float:
    """Find the limit of a bucket that refused the last request of a path with one refusal, and whose burst is worth
    this many seconds of the limit."""
    tried = [_find_highest(path) / (1 + SAME) ** number for number in range(TRIED)]
    return next((limit for limit in tried if walk(path, limit)[1] > seconds * limit), tried[-1])


def find_excess(path: Path, limit: float) -> float:
    """Find the factor by which more was accepted than a limit can explain; chance explains a factor of up to 1."""
    let, refused = walk(path, limit)
    return let / (refused * (1 + 2 * SAME) + LEAST_BURST)


def walk(path: Path, limit: float) -> tuple[float, float]:
    """Find the highest accepted level and the lowest refused level of a bucket with this limit."""
    level, let, refused = 0.0, LEAST_BURST, inf
    for seconds, sent, is_refused in path:
        level = max(level + sent - limit * seconds, 0.0)
        let = max(let, level)
        if is_refused:
            refused = min(refused, level)
    return let, refused


def find_count(path: Path) -> float:
    """Find the lowest limit that explains all refusals as a count that restarts each second; 0 if none does, or for a
    single refusal."""
    if count_refusals(path) == 1 or max(leg.seconds for leg in path if not leg.sent) > COUNT_HOLD:
        return 0.0
    ends = [number + 1 for number, leg in enumerate(path) if number and leg.is_refused]
    bounds = [_bound_count(path[:end]) for end in ends]
    lowest, highest = max(low for low, _ in bounds), min(high for _, high in bounds)
    return lowest if lowest <= highest else 0.0


def _bound_count(path: Path) -> tuple[float, float]:
    """Bound the limit of a count that refused the last request of the path. Its current second began at some time
    within the last second, and has had as many requests as permitted; the second before it had no more than that."""
    begins = [number / TRIED for number in range(TRIED + 1)]
    sent = [(count_sent(path, begun), count_sent(path, begun + 1)) for begun in begins]
    return min(max(last, both - last) for last, both in sent), sent[-1][0]


def _forget_first(path: Path) -> Path:
    """Return the part of the path after its first refusal."""
    return path[next(number for number, leg in enumerate(path) if leg.is_refused) + 1 :]


def _find_highest(path: Path) -> float:
    """Find the highest possible limit: before each refusal, some leg was faster than the limit."""
    fastest, highest = 0.0, inf
    for seconds, sent, is_refused in path:
        fastest = max(fastest, sent / seconds)
        if is_refused:
            highest, fastest = min(highest, fastest), 0.0
    return highest * (1 + SAME)


def _is_same_rate(one: Leg, other: Leg) -> bool:
    rates = one.sent / one.seconds, other.sent / other.seconds
    return max(rates) <= min(rates) * (1 + SAME)


# The search.

# Relative growth of the rate per second until the first refusal.
FIRST_CLIMB = 0.8
# Relative growth of the rate per second in each later climb, to separate limit and burst.
CLIMB = 0.06
# Requests a second. Refusals lower no rate below this, and knocking uses it.
LOWEST_RATE = 2.0
# Where the rate stays, as a part of the ceiling; and the factor that lowers a ceiling at which requests are refused all
# the same.
PART_OF_CEILING = 0.995
# Seconds between two reviews of a rate that climbs.
STEP = 0.1
# The part of the slots that must have been used before the rate climbs.
USED = 0.8
# Seconds of the limit that its burst is assumed to be worth until a second refusal.
LIKELY_BURST = 0.5
# The smallest part of a rate that one refusal leaves.
LEAST_PART = 0.4
# Seconds until the rate climbs again, for each second of the limit that a refusal wastes.
PROBE_AFTER = 30.0
# After a climb without result, the factor for the wait until the next one, …
LONGER_WAIT = 1.5
# … up to this many seconds: a rise is found within an hour.
LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class Search:
    """The state of the search for the limit. Redis keeps the fields by these names."""

    # Requests a second.
    rate: float
    # Relative growth of the rate per second; 0 while the rate stays.
    climb: float = FIRST_CLIMB
    # When the fleet could send again after the last refusal.
    begun_at: float = 0.0
    # The rate is valid from this slot on. Answers and slots from here on count for the next review.
    since: float = 0.0
    # What was sent and refused so far, up to `since`.
    path: Path = ()
    # The last refused slot; 0 before the first refusal, and after a request has been accepted again.
    refused_at: float = 0.0
    # Where the limit was found; 0 if unknown.
    ceiling: float = 0.0
    # While the rate stays: when it climbs again.
    probe_at: float = 0.0
    # The length of this wait, in seconds.
    probe_after: float = PROBE_AFTER
    # The rate before PingOne refused everything, while the first request after each hold is refused; otherwise 0.
    open_rate: float = 0.0
    # Our part of the ceiling, above 0 and up to 1.
    share: float = 1.0
    # Whether a person set the rate: then it does not move.
    is_fixed: bool = False

    @property
    def review_due_at(self) -> float:
        """When the next review is due: once a slot at this time or later has been answered."""
        if self.open_rate:
            return self.since
        return self.since + (STEP if self.climb else 1.0)

    @property
    def is_shared(self) -> bool:
        """Whether we may use only a part of a known ceiling."""
        return self.share < 1 and self.ceiling > 0

    @property
    def rate_below_ceiling(self) -> float:
        """The rate to stay at, just below our share of the ceiling."""
        return self.ceiling * PART_OF_CEILING * self.share

    @property
    def lasting_rate(self) -> float:
        """The rate without knocking."""
        return self.open_rate or self.rate


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
    """Search for the limit again from the current rate; everything but the share is forgotten."""
    return restart_counting(Search(search.lasting_rate, share=search.share), now)


def resume_below_ceiling(ceiling: float, share: float, now: float) -> Search:
    """Begin where an earlier search ended: just below its ceiling."""
    return set_share(Search(ceiling, ceiling=ceiling), share, now)


def restart_counting(search: Search, now: float) -> Search:
    """Forget what was sent and refused before: only new requests say something about the current rate."""
    return replace(search, begun_at=now, since=now, path=(), refused_at=0.0, open_rate=0.0)


def hold_rate(search: Search, seconds: float) -> Search:
    """Stay at the current rate for this many seconds, at most an hour, after the last hold; then climb again."""
    seconds = min(seconds, LONGEST_WAIT)
    return replace(search, climb=0.0, probe_after=seconds, probe_at=search.begun_at + seconds)


def stay_below(search: Search, ceiling: float, seconds: float) -> Search:
    """Stay just below our share of this ceiling for this many seconds; then climb again."""
    found = replace(search, ceiling=max(ceiling, min(LOWEST_RATE, search.lasting_rate) / PART_OF_CEILING))
    return hold_rate(replace(found, rate=found.rate_below_ceiling), seconds)


def learn_from_answers(search: Search, slots: int, last: float, now: float, highest: float, next_slot: float) -> Search:
    """Move the rate after an answer to a slot at `last`. Since `search.since`, this many `slots` were given out, all
    before `next_slot`. No rate exceeds `highest`."""
    if last < search.review_due_at:
        return search
    since = max(now, next_slot, search.since)
    if search.is_fixed:
        return replace(search, since=since)
    if search.open_rate:
        return open_again(search, since)
    if search.is_shared:
        highest = min(highest, search.rate_below_ceiling)
    seconds = since - search.since
    reviewed = replace(search, path=add_leg(search.path, Leg(seconds, slots)), since=since)
    if search.rate > highest:
        # A person may have lowered the highest rate, or our share, meanwhile.
        return replace(reviewed, rate=highest)
    if slots + 1 < USED * search.rate * seconds:
        return reviewed
    if search.climb:
        return climb_further(reviewed, seconds, highest)
    return replace(reviewed, climb=CLIMB) if now >= search.probe_at and search.rate < highest else reviewed


def climb_further(search: Search, seconds: float, highest: float) -> Search:
    """Raise the rate by one step of its climb, for the seconds since the last step. The more was accepted beyond the
    known limit, the faster the rate rises."""
    excess = find_excess(search.path, search.ceiling) if search.ceiling else 0.0
    rate = search.rate * exp(min(search.climb * max(excess, 1.0), FIRST_CLIMB) * seconds)
    if rate >= highest:
        if search.is_shared:
            return stay_below(search, search.ceiling, PROBE_AFTER)
        # The limit is higher than what was known.
        return replace(search, rate=highest, climb=0.0, ceiling=0.0)
    return replace(search, rate=rate)


def learn_from_refusal(search: Search, rate: float, slot: float, count: int, resumes_at: float) -> Search:
    """Move the rate after the refusal of a request whose slot was at the time `slot`, at this rate. Since
    `search.since`, `count` slots have been answered. Nothing goes out before `resumes_at`."""
    if search.is_fixed:
        return search
    if slot < search.begun_at:
        # A request from before the end of the last hold belongs to the refusal that caused the hold.
        return wait(search, slot, search.since, resumes_at) if resumes_at > search.begun_at else search
    is_first = count == 0 and search.since == search.begun_at and search.refused_at > 0
    if is_first and slot < search.begun_at + STEP + 1 / search.rate:
        # The first request after a hold was refused: nothing is accepted, whatever the rate.
        return knock(search, slot, resumes_at)
    path = add_refusal(search.path, slot - search.since, rate)
    refused = wait(replace(search, path=path), slot, slot, resumes_at)
    path, limit, burst = explain(refused.path, search.ceiling)
    refused = replace(refused, path=path)
    least = max(LEAST_PART * rate, min(LOWEST_RATE, search.rate))
    if search.is_shared:
        # Others use the limit too, so they get room.
        return hold_rate(replace(refused, rate=max(rate / 2, least)), LONGER_WAIT * search.probe_after)
    if count_refusals(path) == 1:
        return climb_again(search, refused, least)
    hold = resumes_at - slot
    # The bucket refills while nothing is sent, so that part of the hold is not wasted.
    return settle(refused, max(limit, least), max(hold - burst / limit, hold / 2))


def climb_again(search: Search, refused: Search, least: float) -> Search:
    """Climb slowly from a lower rate, but not from below `least`: one refusal alone cannot separate limit and burst."""
    has_fallen = search.ceiling > 0 and not search.climb
    # What was sent before the limit fell says nothing about the new limit.
    path = refused.path[-2:] if has_fallen else refused.path
    # PingOne may be out of order instead, and then return to its old limit, unless it refuses again right after
    # opening.
    known = search.ceiling if has_fallen and search.refused_at else 0.0
    return replace(refused, rate=max(find_limit(path, LIKELY_BURST), least), climb=CLIMB, path=path, ceiling=known)


def wait(search: Search, slot: float, since: float, resumes_at: float) -> Search:
    """Start over after a hold: the request on this slot was refused, and nothing is sent from `since` until
    `resumes_at`."""
    path = add_leg(search.path, Leg(resumes_at - since, 0.0))
    refused_at = max(slot, search.refused_at)
    return replace(search, refused_at=refused_at, begun_at=resumes_at, since=resumes_at, path=path)


def settle(search: Search, limit: float, wasted: float) -> Search:
    """Stay just below the limit that the walk found, after a refusal that wasted this many seconds of it."""
    known, seconds = search.ceiling, PROBE_AFTER * wasted
    if known and not search.climb:
        limit = min(limit, PART_OF_CEILING * known)
    elif known and limit < (1 + SAME) * known:
        seconds = LONGER_WAIT * search.probe_after
    if limit < (1 - SAME) * known:
        # A limit that has fallen may well rise again.
        seconds = PROBE_AFTER * wasted / 2
    return stay_below(search, limit, seconds)


def knock(search: Search, slot: float, resumes_at: float) -> Search:
    """Ask less and less often whether PingOne accepts requests again."""
    rate = min(LOWEST_RATE, search.lasting_rate)
    closed = replace(search, rate=rate, open_rate=search.lasting_rate)
    pause = min(LONGER_WAIT * (slot - search.refused_at), PROBE_AFTER / 2)
    return wait(closed, slot, search.since, max(resumes_at, slot + pause))


def open_again(search: Search, since: float) -> Search:
    """Continue after a knock was accepted. If the rate was climbing before, it met a limit that counts over many
    seconds, whose mean rate is known; otherwise PingOne was out of order, and little was learned."""
    path = add_leg(search.path, Leg(since - search.since, 0.0))
    opened = restart_counting(replace(search, rate=search.open_rate), since)
    if search.ceiling:
        return stay_below(opened, search.ceiling * PART_OF_CEILING, search.probe_after)
    if search.climb:
        return stay_below(opened, count_sent(path) / sum(leg.seconds for leg in path), PROBE_AFTER)
    return opened


# The groups of PingOne's calls, each with its own rate limit. The path, method, and media type of a call determine its
# group. PingOne does not publish which call is in which group, so here each kind of call is its own group: a 429 slows
# down only its kind.
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html


class RateGroup(StrEnum):
    """A kind of call with its own pace."""

    # Devices of users: activate, read, list.
    MFA = "mfa"
    # Users by their names.
    DIRECTORY = "directory"
    # Tokens of the environment.
    INVENTORY = "inventory"
    # Policies, settings, capabilities.
    CONFIGURATION = "configuration"


# Requests a second to begin with; MFA begins with PINGONE_RATE.
START_RATES = {
    # No figure is published; 10 requests find 400 users, so nothing needs more.
    RateGroup.DIRECTORY: 10.0,
    # The inventory may belong to the configuration group, which has the lowest limit of all.
    RateGroup.INVENTORY: 3.0,
    # 600 a minute, of which one address may use 35 %: 3.5 a second.
    RateGroup.CONFIGURATION: 3.0,
}

# Requests a second that are never exceeded, where a limit is published; all groups also keep to PINGONE_RATE_MAX.
HIGHEST_RATES = {
    # All of the 600 a minute, which an address on the license's list may use.
    RateGroup.CONFIGURATION: 10.0,
    # The inventory may belong to the configuration group; pages read one after another are hardly faster anyway.
    RateGroup.INVENTORY: 10.0,
}


def choose_rates(group: RateGroup, rate: float, rate_max: float) -> tuple[float, float]:
    """Choose the initial and the highest rate of an environment's group, in requests a second."""
    highest = min(rate_max, HIGHEST_RATES.get(group, inf))
    return (rate, highest) if group is RateGroup.MFA else (min(START_RATES[group], highest), highest)


class SlotTooFar(Exception):
    """The next slot is `wait` seconds away, because the fleet holds or many slots are taken before it; no slot was
    reserved."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait

    def __str__(self) -> str:
        return f"the fleet's next slot is {self.wait:.1f} s away"


class PaceOutOfReach(SlotTooFar):
    """Redis cannot be asked for a slot; it is not asked again for `wait` seconds."""
