"""How things are written for a person."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.observability.wording import format_duration, format_moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.7, "1 h 0 min"),
        (200_000, "2 days 7 h"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_moment_is_written_in_utc() -> None:
    moment = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)
    assert format_moment(moment.astimezone(timezone(timedelta(hours=9)))) == "2026-03-01 21:30:00"
