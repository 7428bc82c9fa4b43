"""The texts in which Redis keeps the way of a span, and refusals: rows of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from worker.pace.refusals import BURSTS, Mark, Refusal


def write_rows(rows: Sequence[Mark] | Sequence[Refusal]) -> str:
    """Write marks or refusals as a text."""
    return ";".join(",".join(f"{number:.9g}" for number in _flatten(row)) for row in rows)


def parse_marks(text: str) -> tuple[Mark, ...]:
    """Read marks from a text. Raises ValueError, TypeError where it is none."""
    return tuple(Mark(*row) for row in _parse_rows(text))


def parse_refusals(text: str) -> tuple[Refusal, ...]:
    """Read refusals from a text. Raises ValueError, TypeError where it is none."""
    refusals = []
    for row in _parse_rows(text):
        sent, lasted, hold, count_low, count_high, *limits = row
        if min(row) <= 0 or len(limits) != len(BURSTS):
            raise ValueError("a refusal is no such row")
        refusals.append(Refusal(sent, lasted, hold, count_low, count_high, tuple(limits)))
    return tuple(refusals)


# How the fields of a search are read that are no numbers.
ROWS: dict[str, Callable[[str], tuple[Mark, ...] | tuple[Refusal, ...]]] = {
    "marks": parse_marks,
    "refusals": parse_refusals,
}


def _flatten(row: Mark | Refusal) -> Sequence[float]:
    return (*row[:-1], *row.limits) if isinstance(row, Refusal) else row


def _parse_rows(text: str) -> list[tuple[float, ...]]:
    rows = [tuple(float(number) for number in row.split(",")) for row in text.split(";") if row]
    if not all(math.isfinite(number) for row in rows for number in row):
        raise ValueError("a number is none")
    return rows
