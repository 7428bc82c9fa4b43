from __future__ import annotations

import pytest

from worker.pace.local_holds import RECENT, LocalHolds


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def holds(now: list[float]) -> LocalHolds:
    return LocalHolds(lambda: now[0])


def test_a_hold_ends_by_itself(holds: LocalHolds, now: list[float]) -> None:
    assert holds.fleet_left == 0
    holds.extend_fleet_hold(5)
    now[0] += 3
    assert holds.fleet_left == 2
    now[0] += 3
    assert holds.fleet_left == 0


def test_a_hold_is_extended_and_never_shortened(holds: LocalHolds) -> None:
    holds.extend_fleet_hold(5)
    holds.extend_fleet_hold(2)
    assert holds.fleet_left == 5
    holds.extend_fleet_hold(7)
    assert holds.fleet_left == 7


def test_while_its_own_hold_lasts_no_slot_is_good(holds: LocalHolds) -> None:
    holds.note_fleet_hold(0)
    holds.extend_fleet_hold(5)
    assert holds.is_held_past(10**18) is True


def test_what_was_heard_just_now_decides(holds: LocalHolds) -> None:
    holds.note_fleet_hold(500)
    assert holds.is_held_past(499) is True
    assert holds.is_held_past(500) is False


def test_what_was_heard_a_moment_ago_must_be_asked_again(holds: LocalHolds, now: list[float]) -> None:
    assert holds.is_held_past(499) is None
    holds.note_fleet_hold(500)
    now[0] += 1.1 * RECENT
    assert holds.is_held_past(499) is None


def test_a_hold_of_its_own_is_none_of_the_fleets(holds: LocalHolds, now: list[float]) -> None:
    holds.extend_own_hold(5)
    holds.extend_own_hold(2)
    assert (holds.fleet_left, holds.own_left) == (0, 5)
    holds.note_fleet_hold(0)
    assert holds.is_held_past(10**18) is True
    now[0] += 6
    assert holds.own_left == 0


def test_the_reason_is_that_of_the_longest_hold(holds: LocalHolds) -> None:
    holds.extend_fleet_hold(5, "PingOne answered 503 and asks for 5 s")
    holds.extend_fleet_hold(2, "PingOne cannot be reached")
    assert holds.why == "PingOne answered 503 and asks for 5 s"
    holds.extend_fleet_hold(7, "PingOne cannot be reached")
    assert holds.why == "PingOne cannot be reached"


def test_what_a_person_lifts_is_forgotten_once(holds: LocalHolds) -> None:
    holds.extend_fleet_hold(5)
    holds.extend_own_hold(5)
    assert not holds.note_lifting(0)
    assert holds.fleet_left == 5
    assert holds.note_lifting(17)
    assert (holds.fleet_left, holds.own_left) == (0, 0)
    holds.extend_fleet_hold(5)
    assert not holds.note_lifting(17)
    # A wiped Redis knows of none.
    assert not holds.note_lifting(0)
    assert holds.fleet_left == 5
    # Whatever is said after that is another time.
    assert holds.note_lifting(16)
    assert holds.fleet_left == 0
