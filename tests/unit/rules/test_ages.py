"""What PingOne shows is told from what somebody else made, by when it was made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.rules.progress import TOLERANCE, SentAgo, count_ago, may_be_made_by

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LASTS = timedelta(minutes=1)
MOMENT = timedelta(seconds=1)
# The first request went out an hour ago, and the last one half an hour ago.
SENT_AGO = SentAgo(timedelta(minutes=60), timedelta(minutes=30))


@pytest.mark.parametrize(
    ("age", "may_be"),
    [
        (timedelta(minutes=60) + TOLERANCE, True),
        (timedelta(minutes=60) + TOLERANCE + MOMENT, False),
        (timedelta(minutes=45), True),
        (timedelta(minutes=29) - TOLERANCE, True),
        (timedelta(minutes=29) - TOLERANCE - MOMENT, False),
        (None, True),
    ],
)
def test_it_may_be_made_from_the_first_request_until_the_last_is_over(age: timedelta | None, may_be: bool) -> None:
    assert may_be_made_by(SENT_AGO, age, LASTS) is may_be


def test_whatever_is_not_known_may_be() -> None:
    assert may_be_made_by(None, timedelta(days=2), LASTS)
    assert count_ago(NOW, None) is None


def test_a_single_request_is_the_first_and_the_last() -> None:
    hour = timedelta(hours=1)
    assert count_ago(NOW, NOW - hour) == SentAgo(hour, hour)
    assert count_ago(NOW, NOW - hour, NOW - 2 * hour) == SentAgo(2 * hour, hour)
