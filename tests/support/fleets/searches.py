"""Searches for a limit that have come some way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.pace.search import PROBE_AFTER, Search, hold_rate, restart_counting
from worker.pace.token_bucket import Leg, Path

# The hold after a refusal at 9, which lasted until 10.
HELD: Path = (Leg(1.0, 0.0),)


def make_stay(seconds: float = 10.0, sent: float = 1990.0, **changes: Any) -> Search:
    """A stay below 200 a second, which forgives 100, for so many seconds, in which so many requests were sent."""
    path = (*HELD, Leg(seconds, sent)) if seconds else HELD
    stay = hold_rate(restart_counting(Search(199.0, ceiling=200.0, burst=100.0), now=10.0, path=path), PROBE_AFTER)
    return replace(stay, **{"since": 10.0 + seconds, "refused_at": 9.0} | changes)
