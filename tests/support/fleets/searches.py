"""Searches for a limit that have come some way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.pace.search import PROBE_AFTER, Search, hold_rate, restart_counting


def make_stay(**changes: Any) -> Search:
    """A stay below 200 a second, which forgives 100, for ten seconds."""
    stay = hold_rate(restart_counting(Search(199.0, ceiling=200.0, burst=100.0), now=10.0, held=1.0), PROBE_AFTER)
    return replace(stay, since=20.0, sent=1990.0, refused_at=9.0, **changes)
