from __future__ import annotations

import pytest

from worker.pace.local_holds import FRESH, Holding


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


def test_a_hold_of_its_own_is_none_of_the_fleets(holding: Holding, now: list[float]) -> None:
    holding.extend_alone(5)
    holding.extend_alone(2)
    assert (holding.left, holding.left_alone) == (0, 5)
    holding.heard(0)
    assert holding.is_past(10**18) is True
    now[0] += 6
    assert holding.left_alone == 0


def test_the_reason_is_that_of_the_longest_hold(holding: Holding) -> None:
    holding.extend(5, "PingOne answered 503 and asks for 5 s")
    holding.extend(2, "PingOne cannot be reached")
    assert holding.why == "PingOne answered 503 and asks for 5 s"
    holding.extend(7, "PingOne cannot be reached")
    assert holding.why == "PingOne cannot be reached"


def test_what_a_person_lifts_is_forgotten_once(holding: Holding) -> None:
    holding.extend(5)
    holding.extend_alone(5)
    assert not holding.is_lifted(0)
    assert holding.left == 5
    assert holding.is_lifted(17)
    assert (holding.left, holding.left_alone) == (0, 0)
    holding.extend(5)
    assert not holding.is_lifted(17)
    # A wiped Redis knows of none.
    assert not holding.is_lifted(0)
    assert holding.left == 5
    # Whatever is said after that is another time.
    assert holding.is_lifted(16)
    assert holding.left == 0
