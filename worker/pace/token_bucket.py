"""Which token bucket explains what was let through and refused. Pure arithmetic; times are in seconds, rates in
requests a second.

For each limit that may be, the *level* of a bucket is walked along the path: a request raises it, the limit drains it.
A limit is possible while the highest level that was let through is not above the lowest that was refused. What was
refused tells the burst: it is the level of that moment. A count that begins anew each second explains refusals
differently; where it explains them better than any bucket, it is believed.
https://en.wikipedia.org/wiki/Leaky_bucket#As_a_meter"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor, inf, log, sqrt
from typing import NamedTuple

# Legs that are kept: more tell hardly more of the limit as it is now.
KEPT_LEGS = 80
# Legs whose rates differ by less than this part are one.
SAME_RATE = 0.02
# Seconds. No leg is shorter.
LEAST_SECONDS = 0.001
# Requests. No limit is taken to forgive fewer: they arrive in twos and threes.
LEAST_BURST = 4.0
# Seconds of the limit that a burst is worth at the most.
LARGEST_BURST = 13.0
# A limit may have refused what was sent at this part of it: requests come in bunches.
BUNCHED = 1.02
# Limits that are tried, twice: over all that may be, then over those that agree.
TRIED = 80
# Halvings in which a limit is looked for.
STEPS = 24
# Halvings in which the beginning of a window is looked for.
WINDOW_STEPS = 12
# Seconds of the limit, and requests beside them, by which a limit contradicts what was seen no worse than the best.
AS_GOOD, AS_GOOD_REQUESTS = 0.01, 0.5
# The part of a burst, and requests beside it, by which levels may differ by chance. Where they differ by more, they are
# not of one limit.
CHANCE, CHANCE_REQUESTS = 0.1, 3.0
# After a limit has changed it may forgive more or fewer requests, by this factor.
UNSURE = 1.25
# Refusals without which no limit is taken for a count: any two that are bounds only may agree.
COUNT_REFUSALS = 3
# Seconds. A limit that asks to wait for longer is no count that begins anew each second.
COUNT_HOLD = 4.0
# A count is a whole number, and found a little too low or too high.
ROUNDING = 0.2
# Seconds of the limit by which a count must explain the refusals better than a bucket, for its bounds are wide; …
COUNT_NOISE = 0.012
# … and by which it may explain them worse and still be possible, with one request beside them.
COUNT_POSSIBLE = 0.04


class Leg(NamedTuple):
    """A part of the path: so many requests in so many seconds, and whether the last of them was refused."""

    seconds: float
    sent: float
    is_refused: bool = False


class Refusal(NamedTuple):
    """The end of a span, in which so many requests were sent in so many seconds; then nothing for `hold` seconds."""

    lasted: float
    sent: float
    hold: float


Path = tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The limit is `limit`, and hardly less than `low` or more than `high`. A bucket of it forgives `burst` requests;
    it may be a count that begins anew each second instead. `contradiction` is by how many seconds of the limit what was
    let through contradicts what was refused."""

    limit: float
    low: float
    high: float
    burst: float
    is_count: bool
    contradiction: float

    @property
    def is_contradicted(self) -> bool:
        """Whether one limit cannot have refused and let through all that was."""
        return self.contradiction * self.limit > CHANCE * self.burst + CHANCE_REQUESTS


def add_leg(path: Path, leg: Leg) -> Path:
    """Lengthen the path by a leg, which becomes one with the last where their rates hardly differ."""
    if leg.seconds <= 0:
        return path
    # A hold, in which nothing is sent, is a leg of its own.
    if path and path[-1].sent and not (leg.is_refused or path[-1].is_refused) and _is_same_rate(path[-1], leg):
        path, last = path[:-1], path[-1]
        leg = Leg(last.seconds + leg.seconds, last.sent + leg.sent)
    return (*path, leg)[-KEPT_LEGS:]


def add_refusal(path: Path, seconds: float, rate: float) -> Path:
    """Lengthen the path by the last so many seconds at this rate up to a request that was refused. Where `seconds` are
    less than none, the path had come further than that request: what comes after it goes."""
    while seconds < 0 and path:
        *before, last = path
        kept = max(last.seconds + seconds, 0.0)
        path = add_leg(tuple(before), last._replace(seconds=kept, sent=last.sent * kept / last.seconds))
        seconds = min(seconds + last.seconds, 0.0)
    if not seconds and path and path[-1].sent:
        return (*path[:-1], path[-1]._replace(is_refused=True))
    seconds = max(seconds, LEAST_SECONDS)
    return add_leg(path, Leg(seconds, max(rate * seconds, 1.0), is_refused=True))


def split_spans(path: Path) -> list[Path]:
    """Cut the path behind each refusal. Each span begins with the hold after the refusal before, the first one as soon
    as anything was sent; the last one has not been refused yet."""
    ends = [number + 1 for number, leg in enumerate(path) if leg.is_refused]
    return [path[start:end] for start, end in zip([0, *ends], [*ends, len(path)], strict=True)]


def read_refusals(path: Path) -> list[Refusal]:
    """Read what is known of each refusal of the path."""
    spans = split_spans(path)
    return [
        Refusal(sum(leg.seconds for leg in span if leg.sent), count_sent(span), after[0].seconds if after else 0.0)
        for span, after in pairwise(spans)
    ]


def forget_before(path: Path) -> Path:
    """Return the last span of the path that was refused, and what came after it."""
    *_, refused, latest = split_spans(path)
    return (*refused, *latest)


def count_sent(path: Path, seconds: float = inf) -> float:
    """Count the requests in the last so many seconds of the path."""
    sent = 0.0
    for leg in reversed(path):
        sent += leg.sent * min(seconds / leg.seconds, 1.0)
        seconds -= leg.seconds
        if seconds <= 0:
            break
    return sent


def find_level(path: Path, limit: float, burst: float) -> float:
    """Find to which level a bucket of this limit is filled at the end of the path, if it forgives `burst` requests."""
    level = 0.0
    for seconds, sent, is_refused in path:
        level = burst if is_refused else min(max(level + sent - limit * seconds, 0.0), burst)
    return level


def find_limit(path: Path, burst: float, worth: float = 0.0) -> float:
    """Find the limit of a bucket that has refused the last request of a path with one refusal, and forgives so many
    requests and what the limit is in so many seconds."""
    low, high = _bound_limit(path)
    for _ in range(STEPS):
        middle = sqrt(low * high)
        low, high = (middle, high) if _walk(path, middle)[1] > burst + worth * middle else (low, middle)
    return sqrt(low * high)


def estimate_limit(path: Path) -> Estimate:
    """Estimate the limit that explains all refusals of the path. There is one at the least."""
    low, high = _bound_limit(path)
    if low >= high:
        return Estimate(sqrt(low * high), high, low, 0.0, is_count=False, contradiction=inf)
    for _ in range(2):
        tried = [low * (high / low) ** (number / TRIED) for number in range(TRIED + 1)]
        contradictions = [(let - refused) / limit for limit in tried for let, refused in [_walk(path, limit)]]
        least = min(contradictions)
        good = [n for n, found in enumerate(contradictions) if found <= least + AS_GOOD + AS_GOOD_REQUESTS / tried[n]]
        low, high = tried[max(good[0] - 1, 0)], tried[min(good[-1] + 1, TRIED)]
    low, high = tried[good[0]], tried[good[-1]]
    limit = sqrt(low * high)
    _, burst = _walk(path, limit if count_refusals(path) > 1 else high)
    bucket = Estimate(limit, low, high, burst, is_count=False, contradiction=least)
    return _compare_with_count(path, bucket)


def explain(path: Path, burst: float) -> tuple[Path, Estimate]:
    """Estimate the limit, without the spans from before it has changed; return the path without them too. `burst`: how
    many requests the limit was known to forgive, 0 where that is not known."""
    estimate = estimate_limit(path)
    while estimate.is_contradicted and count_refusals(path) > 1:
        path = path[len(split_spans(path)[0]) :]
        estimate = estimate_limit(path)
    if burst and count_refusals(path) == 1:
        low, limit, high = (find_limit(path, burst * part) for part in (UNSURE, 1.0, 1 / UNSURE))
        estimate = Estimate(limit, low, high, burst, is_count=False, contradiction=0.0)
    return path, estimate


def count_refusals(path: Path) -> int:
    """Count the refusals of the path."""
    return sum(leg.is_refused for leg in path)


def _is_same_rate(one: Leg, other: Leg) -> bool:
    rates = one.sent / one.seconds, other.sent / other.seconds
    return max(rates) <= min(rates) * (1 + SAME_RATE)


def _bound_limit(path: Path) -> tuple[float, float]:
    """Bound the limit that explains all refusals: none was for sending less than the limit all the time, and no more
    was sent than the limit and all that it forgives."""
    lows, highs = zip(*map(_bound_limit_of_span, split_spans(path)[:-1]), strict=True)
    return max(lows), min(highs) * BUNCHED


def _bound_limit_of_span(span: Path) -> tuple[float, float]:
    # Where nothing was sent at first, a bucket was filled for no longer than that.
    seconds = sum(leg.seconds for leg in span) + (LARGEST_BURST if span[0].sent else 0.0)
    # A leg of one request has no rate.
    rates = [leg.sent / leg.seconds for leg in span if leg.seconds > LEAST_SECONDS]
    return count_sent(span) / seconds, max(rates) if any(rates) else 1 / LEAST_SECONDS


def _walk(path: Path, limit: float) -> tuple[float, float]:
    """Find the highest level that was let through, and the lowest that was refused, of a bucket of this limit."""
    level, let, refused = 0.0, LEAST_BURST, inf
    for seconds, sent, is_refused in path:
        level = max(level + sent - limit * seconds, 0.0)
        let = max(let, level)
        if is_refused:
            refused = min(refused, level)
    return let, refused


def _compare_with_count(path: Path, bucket: Estimate) -> Estimate:
    """Believe in a count that begins anew each second, or widen the bounds, where it explains the refusals as well."""
    if max(refusal.hold for refusal in read_refusals(path)) > COUNT_HOLD:
        return bucket
    bounds = [_bound_count(span) for span in split_spans(path)[:-1]]
    low, high = max(low for low, _ in bounds), min(high for _, high in bounds)
    contradiction = max(log(low / high), 0.0) + COUNT_NOISE
    if contradiction > bucket.contradiction + COUNT_POSSIBLE + 1 / bucket.limit:
        return bucket
    low, high = min(low, high), max(low, high)
    widened = replace(bucket, low=min(bucket.low, low), high=max(bucket.high, high))
    if len(bounds) < COUNT_REFUSALS or contradiction >= bucket.contradiction:
        return widened
    return replace(widened, limit=max(floor(low + ROUNDING), 1.0), is_count=True, contradiction=contradiction)


def _bound_count(span: Path) -> tuple[float, float]:
    """Bound the limit, if it is a count that begins anew each second.

    Its last window began within the last second, and brought as many requests as are permitted; the window before did
    not bring more."""
    shortest, longest = 0.0, 1.0
    for _ in range(WINDOW_STEPS):
        middle = (shortest + longest) / 2
        last = count_sent(span, middle)
        former = count_sent(span, middle + 1) - last
        shortest, longest = (shortest, middle) if last > former else (middle, longest)
    return max(count_sent(span, longest), 0.001), max(count_sent(span, 1.0), 0.001)
