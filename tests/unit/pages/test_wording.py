"""Numbers, times and spans as a person reads them."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from support.data.overviews import minutes

from worker.observability.counting import write_share
from worker.pages.wording import list_words, write_exact_share, write_span, write_time


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (0.1984, "198 ms"),
        (1.04, "1.0 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_with_its_largest_units(seconds: float | None, said: str) -> None:
    assert write_span(seconds) == said


@pytest.mark.parametrize(
    ("share", "said", "exactly"),
    [
        (0, "0 %", "0 %"),
        (0.00001, "0.1 %", "0.1 %"),
        (0.123, "12 %", "12.3 %"),
        (0.98633, "99 %", "98.6 %"),
        (0.99999, "99.9 %", "99.9 %"),
        (1, "100 %", "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(share: float, said: str, exactly: str) -> None:
    assert (write_share(share), write_exact_share(share)) == (said, exactly)


def test_a_time_is_in_utc_whatever_zone_it_came_in() -> None:
    assert write_time(minutes(0).astimezone(timezone(timedelta(hours=9)))) == "2026-03-01 21:30:00"
    assert write_time(None) == ""


def test_lists() -> None:
    assert [list_words(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
