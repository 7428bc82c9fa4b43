"""A used-up quota: when batches wait for it, how long, and what a person is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.pingone.errors import Answer, RateLimited
from worker.rules.quota import NEXT_TRY, Quota, explain_quota, read_quota

QUOTA, LIMIT = Answer(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED"), Answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
RESET = datetime(2026, 11, 26, tzinfo=UTC)
LONGEST_HOLD = 120.0


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        # The hold is enough.
        (RateLimited(LIMIT), None),
        (RateLimited(LIMIT, 0.0), None),
        (RateLimited(LIMIT, 120.0), None),
        (RateLimited(QUOTA, 1.0, RESET), None),
        (RateLimited(QUOTA, 120.0, RESET), None),
        # Too far for a hold, whatever it is called.
        (RateLimited(QUOTA, 120.5, RESET), Quota(120.5, RESET)),
        (RateLimited(LIMIT, 3600.0), Quota(3600.0)),
        # Nothing of use is said of when it resets.
        (RateLimited(QUOTA), Quota(NEXT_TRY)),
        (RateLimited(QUOTA, 0.0, RESET), Quota(NEXT_TRY, RESET)),
        (RateLimited(Answer(429, "QUOTA_EXCEEDED")), Quota(NEXT_TRY)),
    ],
)
def test_when_batches_wait_for_a_quota_and_how_long(failure: RateLimited, expected: Quota | None) -> None:
    assert read_quota(failure, LONGEST_HOLD) == expected


def test_a_reset_that_is_waited_for_is_named_once() -> None:
    told = explain_quota(Quota(3600, RESET), RESET + timedelta(seconds=3))

    assert told == "PingOne's quota is used up until 2026-11-26 00:00 UTC: goes on by itself then."


def test_a_reset_that_is_not_waited_for_is_named_beside_the_next_try() -> None:
    told = explain_quota(Quota(86_400, datetime(9999, 12, 31, 23, 59, tzinfo=UTC)), RESET)

    assert told == (
        "PingOne's quota is used up, by what it says until 9999-12-31 23:59 UTC: tried again by itself at "
        "2026-11-26 00:00 UTC."
    )


def test_a_reset_that_is_not_named_is_told_as_that() -> None:
    told = explain_quota(Quota(60), RESET, "22:00-05:30 Europe/Berlin")

    assert told == (
        "PingOne's quota is used up, and PingOne does not say until when: tried again by itself at "
        "2026-11-26 00:00 UTC, inside its window 22:00-05:30 Europe/Berlin."
    )
