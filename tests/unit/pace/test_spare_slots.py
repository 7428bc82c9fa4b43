from __future__ import annotations

import pytest

from worker.pace.local_holds import LocalHolds
from worker.pace.slot import Slot
from worker.pace.spare_slots import MOST_KEPT, USABLE_FOR, SpareSlots

SLOT = Slot(5_000_000, 30.0, 1000.0)


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def holds(now: list[float]) -> LocalHolds:
    return LocalHolds(lambda: now[0])


@pytest.fixture
def spare_slots(holds: LocalHolds, now: list[float]) -> SpareSlots:
    return SpareSlots(holds, lambda: now[0])


def test_what_is_kept_is_taken_once(spare_slots: SpareSlots) -> None:
    spare_slots.add(SLOT)
    assert spare_slots.take() == SLOT
    assert spare_slots.take() is None


def test_what_is_old_is_lost(spare_slots: SpareSlots, now: list[float]) -> None:
    spare_slots.add(SLOT)
    now[0] += USABLE_FOR + 0.01
    assert spare_slots.take() is None
    now[0] = 1000.0
    assert spare_slots.take() is None


def test_after_a_hold_of_this_process_none_from_before_is_taken(
    spare_slots: SpareSlots, holds: LocalHolds, now: list[float]
) -> None:
    spare_slots.add(SLOT)
    holds.extend_fleet_hold(0.2)
    now[0] += 0.3
    assert spare_slots.take() is None


def test_after_a_hold_that_it_heard_of_none_from_before_is_taken(
    spare_slots: SpareSlots, holds: LocalHolds, now: list[float]
) -> None:
    spare_slots.add(SLOT)
    holds.note_fleet_hold(SLOT.at + 1)
    now[0] += 0.5
    assert spare_slots.take() is None


def test_a_hold_that_was_over_before_is_none(spare_slots: SpareSlots, holds: LocalHolds, now: list[float]) -> None:
    now[0] = 990.0
    holds.extend_fleet_hold(5)
    holds.note_fleet_hold(SLOT.at - 1)
    now[0] = 1000.0
    spare_slots.add(SLOT)
    assert spare_slots.take() == SLOT


def test_no_more_are_kept_than_may_leave_at_once(spare_slots: SpareSlots) -> None:
    for _ in range(MOST_KEPT + 5):
        spare_slots.add(SLOT)
    taken = 0
    while spare_slots.take() is not None:
        taken += 1
    assert taken == MOST_KEPT
