"""What one process knows of holds by itself, and which of the slots that were given back it may still use."""

from __future__ import annotations

import pytest
import redis

from worker.pace.slots import MOST_KEPT, RECENT, USABLE_FOR, Holds, Slot, SpareSlots
from worker.pace.state import Reservation

SLOT = Slot(5_000_000, 30.0, 1000.0)


class State:
    """The state in Redis, as it answers; out of reach while `is_away`."""

    def __init__(self) -> None:
        self.held_until = self.last_lifting = self.reads = 0
        self.is_away = self.is_alone = False

    def hold(self, seconds: float, why: str) -> int:
        self._reach()
        return self.last_lifting

    def report_undelivered(self, seconds: float, why: str) -> tuple[bool, int]:
        self._reach()
        return self.is_alone, self.last_lifting

    def reserve(self, furthest: float, *_: object) -> Reservation:
        return Reservation(self.held_until, 1000, 0, 0, self.last_lifting, reserved=0, slot=0, wait=0)

    def read_held_until(self) -> int:
        self.reads += 1
        return self.held_until

    def _reach(self) -> None:
        if self.is_away:
            raise redis.ConnectionError("gone")


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def lifted() -> list[str]:
    return []


@pytest.fixture
def holds(state: State, now: list[float], lifted: list[str]) -> Holds:
    return Holds(
        state,  # type: ignore[arg-type]
        120.0,
        lambda: now[0],
        on_alone=lambda _: None,
        on_lifted=lambda: lifted.append("lifted"),
    )


@pytest.fixture
def spare_slots(holds: Holds, now: list[float]) -> SpareSlots:
    return SpareSlots(holds, lambda: now[0])


@pytest.mark.parametrize("is_away", [False, True])
def test_a_hold_is_remembered_extended_never_shortened_and_ends_by_itself(
    holds: Holds, state: State, now: list[float], is_away: bool
) -> None:
    state.is_away = is_away
    holds.hold(5, "PingOne answered 503")
    holds.hold(2, "PingOne cannot be reached")
    assert holds.fleet_left == 5
    holds.hold(7, "PingOne cannot be reached")
    now[0] += 3
    assert holds.fleet_left == 4
    now[0] += 5
    assert holds.fleet_left == 0


def test_while_its_own_hold_lasts_no_slot_is_good(holds: Holds, state: State, now: list[float]) -> None:
    state.is_alone = True
    holds.report_undelivered(5, "PingOne cannot be reached")
    holds.report_undelivered(2, "PingOne cannot be reached")
    assert (holds.fleet_left, holds.own_left) == (0, 5)
    assert holds.is_held_past(10**18)
    now[0] += 6
    assert not holds.is_held_past(10**18)


def test_what_was_heard_just_now_decides_and_later_it_is_asked_for(
    holds: Holds, state: State, now: list[float]
) -> None:
    state.held_until = 500
    holds.reserve(0.0, 0, 0, 0)
    assert (holds.is_held_past(499), holds.is_held_past(500), state.reads) == (True, False, 0)
    now[0] += 1.1 * RECENT
    assert (holds.is_held_past(499), state.reads) == (True, 1)


def test_what_a_person_lifts_is_forgotten_once(holds: Holds, state: State, lifted: list[str]) -> None:
    holds.hold(5, "")
    assert (holds.note_lifting(0), holds.fleet_left) == (False, 5)
    assert (holds.note_lifting(17), holds.fleet_left) == (True, 0)
    state.last_lifting = 17
    holds.hold(5, "")
    # A wiped Redis knows of none.
    assert (holds.note_lifting(17), holds.note_lifting(0), holds.fleet_left) == (False, False, 5)
    # Whatever is said after that is another time.
    assert (holds.note_lifting(16), holds.fleet_left, lifted) == (True, 0, ["lifted"] * 2)


def test_a_slot_that_is_kept_is_taken_once_and_lost_when_it_is_old(spare_slots: SpareSlots, now: list[float]) -> None:
    spare_slots.add(SLOT)
    assert [spare_slots.take(), spare_slots.take()] == [SLOT, None]
    spare_slots.add(SLOT)
    now[0] += USABLE_FOR + 0.01
    assert spare_slots.take() is None
    now[0] = 1000.0
    assert spare_slots.take() is None


@pytest.mark.parametrize("is_heard", [False, True])
def test_after_a_hold_no_slot_from_before_is_taken(
    spare_slots: SpareSlots, holds: Holds, state: State, now: list[float], is_heard: bool
) -> None:
    spare_slots.add(SLOT)
    if is_heard:
        state.held_until = SLOT.at + 1
        holds.reserve(0.0, 0, 0, 0)
    else:
        holds.hold(0.2, "")
    now[0] += 0.3
    assert spare_slots.take() is None


def test_a_hold_that_was_over_before_is_none(
    spare_slots: SpareSlots, holds: Holds, state: State, now: list[float]
) -> None:
    now[0] = 990.0
    state.held_until = SLOT.at - 1
    holds.hold(5, "")
    holds.reserve(0.0, 0, 0, 0)
    now[0] = 1000.0
    spare_slots.add(SLOT)
    assert spare_slots.take() == SLOT


def test_no_more_slots_are_kept_than_may_leave_at_once(spare_slots: SpareSlots) -> None:
    for _ in range(MOST_KEPT + 5):
        spare_slots.add(SLOT)
    taken = 0
    while spare_slots.take() is not None:
        taken += 1
    assert taken == MOST_KEPT
