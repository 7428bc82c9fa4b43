"""What a refusal tells of the license's limit. Pure arithmetic; times are in seconds, rates in requests a second.

A limit that forgives a burst worth s seconds of it has refused because some stretch up to the refusal brought more than
the limit, times the length of the stretch and s. So for each s one limit explains a refusal: the highest mean rate of
any stretch up to it, with s seconds added to its length. What had been used up before a hold is there again only as far
as the hold was long, so that for the whole span no more is added than that."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import log
from typing import NamedTuple

# Refusals that are kept: more tell hardly more.
KEPT_REFUSALS = 3
# Seconds that bursts are taken to be worth, from the smallest to the largest, each this much more than the one before.
SMALLEST_BURST = 0.004
NEXT_BURST = 1.5
BURSTS = tuple(SMALLEST_BURST * NEXT_BURST**number for number in range(21))
# Steps in which the limit is found of a bucket of so many requests.
BUCKET_STEPS = 30
# Halvings in which a window is looked for.
COUNT_STEPS = 12
# Seconds. After a hold of this length any bucket is full; so it is when a fleet begins.
LONG_HOLD = 1e6


class Mark(NamedTuple):
    """How far a span was: so many seconds after it began, so many requests were sent."""

    at: float
    sent: float


class Refusal(NamedTuple):
    """The end of a span.

    It lasted for so many seconds, in which so many requests were sent; then nobody sends for `hold` seconds. `limits`
    explain it, if the burst is worth as many seconds as BURSTS say; a count that begins anew each second lies between
    `count_low` and `count_high`."""

    sent: float
    lasted: float
    hold: float
    count_low: float
    count_high: float
    limits: tuple[float, ...]

    def find_limit(self, burst: float) -> float:
        """Find the limit that explains this refusal, if its burst is worth so many seconds of it."""
        place = min(max(log(burst / SMALLEST_BURST) / log(NEXT_BURST), 0.0), len(BURSTS) - 1.0)
        number = min(int(place), len(BURSTS) - 2)
        part = place - number
        return self.limits[number] * (1 - part) + self.limits[number + 1] * part

    def find_limit_of_bucket(self, requests: float) -> float:
        """Find the limit that explains this refusal, if it forgives so many requests at once."""
        limit = self.limits[0]
        for _ in range(BUCKET_STEPS):
            limit = self.find_limit(requests / limit)
        return limit


def explain_refusal(marks: Sequence[Mark], end: Mark, held: float, hold: float) -> Refusal:
    """Say which limits explain that a span was refused at its end.

    Before it nothing was sent for `held` seconds, after it nothing is for `hold` seconds."""
    before = [mark for mark in marks if mark.at < end.at]
    limits = []
    for burst in BURSTS:
        fullest = max(((end.sent - mark.sent) / (end.at - mark.at + burst) for mark in before), default=0.0)
        limits.append(max(fullest, end.sent / (end.at + min(burst, held))))
    return Refusal(end.sent, end.at, hold, *_bound_count(before, end), tuple(limits))


def keep_refusal(kept: tuple[Refusal, ...], refusal: Refusal) -> tuple[Refusal, ...]:
    """Add a refusal to those that are kept. The first two stay: they were of climbs that differed most."""
    return (*kept[: KEPT_REFUSALS - 1], refusal)


def find_sent(marks: Sequence[Mark], end: Mark, at: float) -> float:
    """Find how many requests of a span had been sent so many seconds after it began."""
    way = [Mark(0.0, 0.0), *(mark for mark in marks if mark.at < end.at), end]
    for before, after in itertools.pairwise(way):
        if at <= after.at:
            part = (at - before.at) / max(after.at - before.at, 1e-6)
            return before.sent + part * (after.sent - before.sent)
    return end.sent


def _bound_count(before: Sequence[Mark], end: Mark) -> tuple[float, float]:
    """Bound the limit, if it is a count that begins anew each second.

    Its last window began within the last second, and brought as many requests as are permitted; the window before did
    not bring more."""
    earliest, latest = max(end.at - 1, 0.0), end.at
    high = end.sent - find_sent(before, end, earliest)
    for _ in range(COUNT_STEPS):
        middle = (earliest + latest) / 2
        last = end.sent - find_sent(before, end, middle)
        former = find_sent(before, end, middle) - find_sent(before, end, max(middle - 1, 0.0))
        earliest, latest = (middle, latest) if last > former else (earliest, middle)
    low = end.sent - find_sent(before, end, earliest)
    return max(low, 0.001), max(high, 0.001)
