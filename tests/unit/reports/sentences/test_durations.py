"""How a number of seconds is written for a person."""

from __future__ import annotations

import pytest

from worker.reports.sentences.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (200_000, "55 h 33 min"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds, text):
    assert format_duration(seconds) == text
