"""Finds the lot, vendor or model of which far more tokens were out of step than chance explains. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from worker.reports.batch_report.contents import StepShare

# Tokens that a group needs at least: of fewer, each one weighs too much.
FEWEST_TOKENS = 10
# A group stands out only if its share is above so many times that of all others.
TIMES_THE_REST = 2.0
# … and if chance would bring as many less often than this, whichever of the groups it were.
CHANCE = 0.001


def mark_groups(counts: Mapping[str, tuple[int, int]]) -> tuple[StepShare, ...]:
    """Make the shares of groups, given as (tokens, out of step) by name, and mark those that stand out; they come
    first, then the highest share."""
    tokens = sum(each[0] for each in counts.values())
    out_of_step = sum(each[1] for each in counts.values())
    shares = [
        _mark(StepShare(name, *group), tokens - group[0], out_of_step - group[1], len(counts))
        for name, group in counts.items()
    ]
    return tuple(sorted(shares, key=lambda share: (not share.stands_out, -share.share, -share.tokens, share.name)))


def _mark(share: StepShare, others: int, others_out_of_step: int, groups: int) -> StepShare:
    """Compare a group with all other tokens. With many groups one of them is far off by chance sooner, so that each of
    them has to be the more improbable."""
    if not others:
        return share
    elsewhere = others_out_of_step / others
    # One token more on either side: a share of exactly 0 would make a single token out of step impossible.
    expected = (others_out_of_step + 1) / (others + 2)
    stands_out = (
        share.tokens >= FEWEST_TOKENS
        and share.share > TIMES_THE_REST * elsewhere
        and tail_of_binomial(share.out_of_step, share.tokens, expected) * groups < CHANCE
    )
    return replace(share, stands_out=stands_out, elsewhere=elsewhere)


def tail_of_binomial(at_least: int, tries: int, chance: float) -> float:
    """The probability that at least so many of `tries` come true, if each does by itself with this chance (above 0,
    below 1)."""
    if at_least <= tries * chance:
        # Not more than is to be expected: the exact number does not matter.
        return 1.0
    total = 0.0
    for hits in range(at_least, tries + 1):
        term = _probability(hits, tries, chance)
        total += term
        if term < total * 1e-12:
            break
    return min(total, 1.0)


def _probability(hits: int, tries: int, chance: float) -> float:
    """The probability of exactly so many hits."""
    ways = math.lgamma(tries + 1) - math.lgamma(hits + 1) - math.lgamma(tries - hits + 1)
    return math.exp(ways + hits * math.log(chance) + (tries - hits) * math.log1p(-chance))
