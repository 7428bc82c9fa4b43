from __future__ import annotations

import pytest

from worker.pace.local_holds import Holding
from worker.pace.spare_slots import FRESH, MOST, Spares

SLOT = (5_000_000, 30.0, 1000.0)


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def holding(now: list[float]) -> Holding:
    return Holding(lambda: now[0])


@pytest.fixture
def spares(holding: Holding, now: list[float]) -> Spares:
    return Spares(holding, lambda: now[0])


def test_what_is_kept_is_taken_once(spares: Spares) -> None:
    spares.keep(SLOT)
    assert spares.take() == SLOT
    assert spares.take() is None


def test_what_is_old_is_lost(spares: Spares, now: list[float]) -> None:
    spares.keep(SLOT)
    now[0] += FRESH + 0.01
    assert spares.take() is None
    now[0] = 1000.0
    assert spares.take() is None


def test_after_a_hold_of_this_process_none_from_before_is_taken(
    spares: Spares, holding: Holding, now: list[float]
) -> None:
    spares.keep(SLOT)
    holding.extend(0.2)
    now[0] += 0.3
    assert spares.take() is None


def test_after_a_hold_that_it_heard_of_none_from_before_is_taken(
    spares: Spares, holding: Holding, now: list[float]
) -> None:
    spares.keep(SLOT)
    holding.heard(SLOT[0] + 1)
    now[0] += 0.5
    assert spares.take() is None


def test_a_hold_that_was_over_before_is_none(spares: Spares, holding: Holding, now: list[float]) -> None:
    now[0] = 990.0
    holding.extend(5)
    holding.heard(SLOT[0] - 1)
    now[0] = 1000.0
    spares.keep(SLOT)
    assert spares.take() == SLOT


def test_no_more_are_kept_than_may_leave_at_once(spares: Spares) -> None:
    for _ in range(MOST + 5):
        spares.keep(SLOT)
    taken = 0
    while spares.take() is not None:
        taken += 1
    assert taken == MOST
