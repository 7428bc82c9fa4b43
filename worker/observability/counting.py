"""Counts in a sentence, so that one thing is not written as if it were many."""

from __future__ import annotations


def count_things(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: `1 token`, `2 tokens`, `2,959 tokens`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
