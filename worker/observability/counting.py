"""Counts in a sentence, and words that agree with them, so that one thing is not written as if it were many."""

from __future__ import annotations


def count_things(number: int, one: str) -> str:
    """Write a number with its noun: `1 token`, `2 tokens`, `2,959 tokens`."""
    return f"{number:,} {agree(number, one, one + 's')}"


def agree(number: int, one: str, many: str) -> str:
    """Choose the word that agrees with a number, such as `is` or `are`."""
    return one if number == 1 else many
