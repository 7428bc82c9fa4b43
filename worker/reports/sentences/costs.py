"""What a batch has cost so far, in a line."""

from __future__ import annotations

from worker.observability.counting import count_things
from worker.reports.facts import BatchStatus


def describe_costs(status: BatchStatus) -> str:
    """Say how many OTPs, requests and attempts the records of a batch took."""
    return (
        f"{count_things(status.otp_posts, 'OTP')} posted · {status.resynced:,} resynced by a second OTP · "
        f"{count_things(status.requests, 'request')}, {status.rate_limited:,} of them answered 429 · "
        f"{count_things(status.attempts, 'attempt')}"
    )
