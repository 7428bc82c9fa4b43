"""Estimates how long a batch will still take. Pure: counts and paces in, seconds out."""

from __future__ import annotations

from worker.pace.known_pace import KnownPace

# The part of the license's rate that an address gets unless it is listed under Rate Limits and Allowed IPs:
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
UNLISTED_PART = 0.35
# From this part of the license's rate on, a batch is held back by that rate and by nothing else.
AT_CEILING_FROM = 0.8


def estimate_time_left(left: int, pace: float, preparing: int, preparation_pace: float) -> float | None:
    """Estimate the seconds until `left` records are settled at this pace, and those of them that are prepared first are
    so at theirs; None while one of the paces, in records a second, is not known."""
    if not left:
        return 0.0
    if not pace:
        return None
    if not preparing:
        return left / pace
    return max(left / pace, preparing / preparation_pace) if preparation_pace else None


def estimate_if_listed(time_left: float | None, requests: float, known: KnownPace | None) -> float | None:
    """Estimate the time left if the workers' address were listed by PingOne, and is not yet: an unlisted one gets a
    part of the license's rate. `requests`: how many a second are made now. None if it is not PingOne's limit that
    decides how long it takes."""
    if not time_left or not known or not known.ceiling or not known.rate or known.fixed_rate:
        return None
    return time_left * UNLISTED_PART if requests > AT_CEILING_FROM * known.rate else None
