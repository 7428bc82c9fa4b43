"""Counts, shares, times and spans of time in a sentence, and words that agree with them, so that one is not written as
if it were many."""

from __future__ import annotations

from datetime import UTC, datetime


def count_things(number: int, one: str) -> str:
    """Write a number with its noun: `1 token`, `2 tokens`, `2,959 tokens`."""
    return f"{number:,} {agree(number, one, one + 's')}"


def agree(number: int, one: str, many: str) -> str:
    """Choose the word that agrees with a number, such as `is` or `are`."""
    return one if number == 1 else many


def write_share(share: float) -> str:
    """Write a share in percent: 0.123 becomes `12 %`. What is little, but not nothing, keeps a digit, and what is not
    quite all is never rounded up to all."""
    percent = 100 * share
    if 0 < percent < 1 or 99 < percent < 100:
        return f"{max(min(percent, 99.9), 0.1):.1f} %"
    return f"{percent:.0f} %"


def format_duration(seconds: float) -> str:
    """Write a number of seconds for a person: 95 becomes `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_moment(at: datetime | None) -> str:
    """Write a time in UTC for a person, to the second: `2026-11-25 21:00:05`; empty for None."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""
