"""Which token bucket explains what was let through and refused. Pure arithmetic; times are in seconds, rates in
requests a second.

For each limit that may be, the *level* of a bucket is walked along the path: a request raises it, the limit drains it.
A limit is possible while the highest level that was let through is not above the lowest that was refused; that level is
the burst. https://en.wikipedia.org/wiki/Leaky_bucket#As_a_meter"""

from math import inf, sqrt
from typing import NamedTuple

# Legs that are kept, so that Redis keeps little: more tell hardly more of the limit as it is now.
KEPT_LEGS = 80
# Refusals that are kept. Of those before them only the burst is known.
KEPT_REFUSALS = 3
# Rates, and limits, that differ by less than this part are the same.
SAME = 0.02
# Limits that are tried, twice: down from the highest, then more finely among those that agree.
TRIED = 160
# Seconds of the limit by which a limit contradicts what was seen no worse than the best.
AS_GOOD = 0.005
# Requests. No limit is taken to forgive fewer, and by as many levels may differ: requests arrive in twos and threes.
LEAST_BURST = 4.0
# Seconds. A limit that asks to wait for longer is no count that begins anew each second.
COUNT_HOLD = 4.0


class Leg(NamedTuple):
    """A part of the path: so many requests in so many seconds, and whether the last of them was refused."""

    seconds: float
    sent: float
    is_refused: bool = False


Path = tuple[Leg, ...]


def add_leg(path: Path, leg: Leg) -> Path:
    """Lengthen the path by a leg, which becomes one with the last where their rates hardly differ."""
    if leg.seconds <= 0:
        return path
    if path and not (leg.is_refused or path[-1].is_refused) and _is_same_rate(path[-1], leg):
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
    # One request at the least.
    seconds = max(seconds, 1 / rate)
    return add_leg(path, Leg(seconds, rate * seconds, is_refused=True))


def count_refusals(path: Path) -> int:
    """Count the refusals of the path."""
    return sum(leg.is_refused for leg in path)


def count_sent(path: Path, seconds: float = inf) -> float:
    """Count the requests in the last so many seconds of the path."""
    sent = 0.0
    for leg in reversed(path):
        sent += leg.sent * min(max(seconds / leg.seconds, 0.0), 1.0)
        seconds -= leg.seconds
    return sent


def explain(path: Path, known: float) -> tuple[Path, float, float]:
    """Find the limit that explains the refusals of the path, and how many requests it forgives; return the path without
    those from before it has changed too. There is a refusal at the least. `known`: where the limit was found before, 0
    where it is not known."""
    limit = estimate_limit(path, known)
    count = find_count(path)
    while not count and count_refusals(path) > 1 and find_excess(path, limit) > 1:
        path = _forget_first(path)
        limit, count = estimate_limit(path, known), find_count(path)
    let, burst = walk(path, limit)
    if count_refusals(path) > KEPT_REFUSALS:
        # A bucket that has just refused is empty: so the next span begins.
        path = (Leg(1 / limit, max(burst, 1.0), is_refused=True), *_forget_first(_forget_first(path)))
    if count and (not known or let > burst):
        limit = count
    return path, limit, burst


def estimate_limit(path: Path, known: float = 0.0) -> float:
    """Find the bucket that explains all refusals of the path best: of those as good as the best the known one, or the
    nearest to it; the middle where none is known."""
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
    """Find the limit of a bucket that has refused the last request of a path with one refusal, and forgives what the
    limit is in so many seconds."""
    tried = [_find_highest(path) / (1 + SAME) ** number for number in range(TRIED)]
    return next((limit for limit in tried if walk(path, limit)[1] > seconds * limit), tried[-1])


def find_excess(path: Path, limit: float) -> float:
    """Find how many times as much as a limit can explain was let through; 1 is just what chance explains."""
    let, refused = walk(path, limit)
    return let / (refused * (1 + 2 * SAME) + LEAST_BURST)


def walk(path: Path, limit: float) -> tuple[float, float]:
    """Find the highest level that was let through, and the lowest that was refused, of a bucket of this limit."""
    level, let, refused = 0.0, LEAST_BURST, inf
    for seconds, sent, is_refused in path:
        level = max(level + sent - limit * seconds, 0.0)
        let = max(let, level)
        if is_refused:
            refused = min(refused, level)
    return let, refused


def find_count(path: Path) -> float:
    """Find the least limit that explains all refusals as a count that begins anew each second; 0 where none does, or
    there is one refusal only."""
    if count_refusals(path) == 1 or max(leg.seconds for leg in path if not leg.sent) > COUNT_HOLD:
        return 0.0
    ends = [number + 1 for number, leg in enumerate(path) if number and leg.is_refused]
    bounds = [_bound_count(path[:end]) for end in ends]
    lowest, highest = max(low for low, _ in bounds), min(high for _, high in bounds)
    return lowest if lowest <= highest else 0.0


def _bound_count(path: Path) -> tuple[float, float]:
    """Bound a count that has refused the last request of the path. Its last second began at some time within the last
    one, and brought as many requests as are permitted; the second before did not bring more."""
    begins = [number / TRIED for number in range(TRIED + 1)]
    sent = [(count_sent(path, begun), count_sent(path, begun + 1)) for begun in begins]
    return min(max(last, both - last) for last, both in sent), sent[-1][0]


def _forget_first(path: Path) -> Path:
    """Return the path without what came up to its first refusal."""
    return path[next(number for number, leg in enumerate(path) if leg.is_refused) + 1 :]


def _find_highest(path: Path) -> float:
    """Find the highest limit that may be: before each refusal a leg was faster."""
    fastest, highest = 0.0, inf
    for seconds, sent, is_refused in path:
        fastest = max(fastest, sent / seconds)
        if is_refused:
            highest, fastest = min(highest, fastest), 0.0
    return highest * (1 + SAME)


def _is_same_rate(one: Leg, other: Leg) -> bool:
    rates = one.sent / one.seconds, other.sent / other.seconds
    return max(rates) <= min(rates) * (1 + SAME)
