"""Which failed call shows that PingOne is there."""

from __future__ import annotations

import pytest

from worker.rules.breaker import is_own_answer


@pytest.mark.parametrize(
    ("http_status", "correlation_id", "is_own"),
    [
        (400, "3f0c", True),
        # A success that names no status, and a time-out that PingOne itself reports.
        (200, "3f0c", True),
        (408, "3f0c", True),
        # PingOne itself, but out of order.
        (500, "3f0c", False),
        (503, "3f0c", False),
        # A proxy's page.
        (404, None, False),
        (200, None, False),
        # Nothing at all.
        (None, None, False),
    ],
)
def test_only_an_answer_below_500_with_a_correlation_id_is_pingones(
    http_status: int | None, correlation_id: str | None, is_own: bool
) -> None:
    assert is_own_answer(http_status, correlation_id) is is_own
