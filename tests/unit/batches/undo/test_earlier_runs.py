"""What earlier runs of an undo took away, as their lines in the audit tell it."""

from __future__ import annotations

from typing import Any

import pytest

from worker.batches.undo.earlier_runs import count_taken_away

PLANNED = ("devices", "unknown_pairings")


def before(devices: int, unknown: int = 0) -> dict[str, Any]:
    return {"devices": devices, "unknown_pairings": unknown}


def after(removed: int) -> dict[str, Any]:
    return {"removed": removed, "gone": 3, "never_made": 0, "left": 0}


@pytest.mark.parametrize(
    ("lines", "left", "count"),
    [
        ([], 192, 0),
        # Interrupted in good order.
        ([before(192), after(72)], 120, 72),
        # Killed.
        ([before(192)], 120, 72),
        ([before(180, 12)], 120, 72),
        # Killed, then interrupted, then killed again.
        ([before(192), before(150), after(10), before(140)], 120, 42 + 10 + 20),
        # More is there than before: a look-up has found what a pairing of unknown fate had made.
        ([before(100)], 101, 0),
    ],
)
def test_what_was_taken_away_is_counted_though_a_run_was_killed(
    lines: list[dict[str, Any]], left: int, count: int
) -> None:
    assert count_taken_away(lines, PLANNED, "removed", left) == count
