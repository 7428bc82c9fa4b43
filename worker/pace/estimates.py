"""Which limit explains several refusals. Pure arithmetic; times are in seconds, rates in requests a second.

Spans that were driven differently, one climbing fast, one slowly, meet in one limit and one burst. A count that begins
anew each second explains refusals differently; where it explains them as well as a bucket does, both stand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, log, sqrt

from worker.pace.refusals import BURSTS, Refusal

# Steps in which bursts are tried out between two of BURSTS.
FINER = 6
# What explains the refusals worse than the best by more than this, as a logarithm of limits, does not explain them.
SAME = 0.01
# A count that begins anew each second is a whole number, and found a little too low or too high.
ROUNDING = 0.2
# Refusals without which no limit is taken for a count: any two that are bounds only may agree.
COUNT_REFUSALS = 3
# Seconds. A limit that asks to wait for longer is no count that begins anew each second.
COUNT_HOLD = 4.0
# After a limit has changed it may forgive more or fewer requests, by this factor.
UNSURE = 1.25
# By so much, as a logarithm of limits, refusals disagree by chance: a count gives no exact limit that would show it.
NOISE = 0.005
# Refusals that disagree by more than this, as a logarithm of limits, are not of one limit.
DISAGREEMENT = 0.06

_TRIED = tuple(
    exp(log(first) + (log(second) - log(first)) * step / FINER)
    for first, second in itertools.pairwise(BURSTS)
    for step in range(FINER)
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The limit is `limit`, and hardly less than `low` or more than `high`. A bucket of it is worth about `burst`
    seconds of it; it may be a count that begins anew each second instead. `disagreement` is by how much the refusals
    contradict each other, as a logarithm of limits."""

    limit: float
    low: float
    high: float
    burst: float
    is_count: bool
    disagreement: float

    @property
    def spread(self) -> float:
        """How far apart the bounds are, as a logarithm."""
        return log(self.high / self.low)


def estimate_limit(refusals: Sequence[Refusal]) -> Estimate:
    """Estimate the limit that explains all of these refusals."""
    buckets = [_explain_as_bucket(refusals, burst) for burst in _TRIED]
    count = _explain_as_count(refusals)
    if max(refusal.hold for refusal in refusals) > COUNT_HOLD:
        count = buckets[0]
    least = min(estimate.disagreement for estimate in (*buckets, count))
    enough = least + SAME + 1 / min(refusal.sent for refusal in refusals)
    good = [estimate for estimate in (*buckets, count) if estimate.disagreement <= enough]
    bucket = min(buckets, key=lambda bucket: bucket.disagreement)
    of_buckets = [estimate for estimate in good if not estimate.is_count] or [bucket]
    is_count = len(refusals) >= COUNT_REFUSALS and count.disagreement < bucket.disagreement
    limit = max(floor(count.low + ROUNDING), 1.0) if is_count else sqrt(of_buckets[0].limit * of_buckets[-1].limit)
    low, high = min(estimate.low for estimate in good), max(estimate.high for estimate in good)
    return Estimate(limit, low, high, bucket.burst, is_count, least)


def estimate_by_burst(refusal: Refusal, requests: float) -> Estimate:
    """Estimate the limit from one refusal, if it forgives about so many requests at once."""
    low, limit, high = (refusal.find_limit_of_bucket(requests * part) for part in (UNSURE, 1.0, 1 / UNSURE))
    return Estimate(limit, low, high, requests / limit, is_count=False, disagreement=0.0)


def _explain_as_bucket(refusals: Sequence[Refusal], burst: float) -> Estimate:
    limits = [refusal.find_limit(burst) for refusal in refusals]
    middle = exp(sum(map(log, limits)) / len(limits))
    return Estimate(middle, middle, middle, burst, is_count=False, disagreement=log(max(limits) / min(limits)))


def _explain_as_count(refusals: Sequence[Refusal]) -> Estimate:
    low = max(refusal.count_low for refusal in refusals)
    high = min(refusal.count_high for refusal in refusals)
    disagreement = max(log(low / high), 0.0) + NOISE
    return Estimate(sqrt(low * high), min(low, high), max(low, high), 0.0, is_count=True, disagreement=disagreement)
