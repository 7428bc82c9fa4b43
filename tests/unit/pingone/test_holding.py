from __future__ import annotations

import pytest

from worker.pingone.holding import FRESH, Holding


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def holding(now: list[float]) -> Holding:
    return Holding(lambda: now[0])


def test_a_hold_ends_by_itself(holding: Holding, now: list[float]) -> None:
    assert holding.left == 0
    holding.extend(5)
    now[0] += 3
    assert holding.left == 2
    now[0] += 3
    assert holding.left == 0


def test_a_hold_is_extended_and_never_shortened(holding: Holding) -> None:
    holding.extend(5)
    holding.extend(2)
    assert holding.left == 5
    holding.extend(7)
    assert holding.left == 7


def test_while_its_own_hold_lasts_no_slot_is_good(holding: Holding) -> None:
    holding.heard(0)
    holding.extend(5)
    assert holding.is_past(10**18) is True


def test_what_was_heard_just_now_decides(holding: Holding) -> None:
    holding.heard(500)
    assert holding.is_past(499) is True
    assert holding.is_past(500) is False


def test_what_was_heard_a_moment_ago_must_be_asked_again(holding: Holding, now: list[float]) -> None:
    assert holding.is_past(499) is None
    holding.heard(500)
    now[0] += 1.1 * FRESH
    assert holding.is_past(499) is None
