"""How long a notice waits for its next try."""

from __future__ import annotations

import pytest

from worker.notices.outbox import choose_delay, is_refusal


def test_delays_grow_from_five_seconds_to_five_minutes() -> None:
    delays = [choose_delay(tries, 500, None) for tries in range(1, 10)]
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_no_number_of_tries_is_too_large() -> None:
    assert choose_delay(10**9, None, None) == 300


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 422])
def test_a_refusal_is_retried_more_slowly(status: int) -> None:
    assert [choose_delay(tries, status, None) for tries in (1, 2, 5, 9)] == [300, 600, 3600, 3600]


@pytest.mark.parametrize("status", [None, 100, 408, 429, 500, 503])
def test_what_passes_by_itself_is_no_refusal(status: int | None) -> None:
    assert not is_refusal(status)


def test_retry_after_is_obeyed_and_never_shortens_a_delay() -> None:
    assert choose_delay(1, 429, 60.0) == 60
    assert choose_delay(1, 429, 7200.0) == 7200
    assert choose_delay(3, 503, 1.0) == 20
    assert choose_delay(1, 410, 1.0) == 300
