"""The paces of a license's other rate groups, beside that of activations.

Redis alone keeps them, for a day after the last change: what is asked of these groups is over within minutes. Only the
share of the license and the end of a hold come to them from the database, by the dispatcher."""

from __future__ import annotations

from dataclasses import replace

from worker.pace.rate_groups import START_RATES
from worker.pace.replies import Reading
from worker.pace.search import Search, set_share
from worker.pace.slots import Pace


def make_other_groups(pace: Pace) -> list[Pace]:
    """Make paces of the other rate groups of this license, to read and change what Redis keeps of them."""
    return [
        Pace(pace.redis, pace.license, rate, group, furthest=pace.furthest, longest_hold=pace.longest_hold)
        for group, rate in START_RATES.items()
    ]


def apply_share(pace: Pace, share: float) -> None:
    """Let the pace of a group keep to this share of the license, where Redis has one that does not. A rate that a
    person has set stays. Raises redis.RedisError."""

    def change(search: Search, reading: Reading) -> Search:
        return replace(search, share=share) if search.is_fixed else set_share(search, share, reading.now)

    search = pace.read().search
    if search is not None and search.share != share:
        pace.change(change)
