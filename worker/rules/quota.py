"""A used-up quota of PingOne's license: how long batches wait for it, and what a person is told. Pure.
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.pingone.errors import RateLimited
from worker.rules.hours import format_time

# PingOne's code for a used-up quota.
EXCEEDED = "QUOTA_EXCEEDED"
# Seconds until the next try if PingOne does not say when its quota resets, or names a past time.
NEXT_TRY = 60.0
# If PingOne's time and ours differ by at most this much, a person is told only one of them.
_SAME = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Quota:
    """A used-up quota. `resets_in`: seconds until requests may be sent again; `reset_at`: the time that PingOne named,
    None if it named none."""

    resets_in: float
    reset_at: datetime | None = None


def read_quota(failure: RateLimited, longest_hold: float) -> Quota | None:
    """The quota that a 429 reports as used up; None if it is over within the fleet's longest hold (in seconds)."""
    wait = failure.retry_after
    if wait is not None and wait > longest_hold:
        return Quota(wait, failure.quota_reset_at)
    is_quota = EXCEEDED in (failure.answer.code, failure.answer.detail_code)
    return Quota(NEXT_TRY, failure.quota_reset_at) if is_quota and not wait else None


def explain_quota(quota: Quota, resumes_at: datetime, hours: str | None = None) -> str:
    """The detail of a batch that waits until `resumes_at`, and may run only in these hours of a day."""
    at, inside = format_time(resumes_at), f", inside its window {hours}" if hours else ""
    if quota.reset_at is None:
        until = "and PingOne does not say until when"
    elif abs(quota.reset_at - resumes_at) <= _SAME:
        return f"PingOne's quota is used up until {at}: continues by itself then{inside}."
    else:
        until = f"until {format_time(quota.reset_at)}, according to PingOne"
    return f"PingOne's quota is used up, {until}: tried again by itself at {at}{inside}."
