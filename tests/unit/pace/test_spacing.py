from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from worker.pace.slots import AT_ONCE, Spacing

# Between the fleet's slots, in seconds.
INTERVAL = 0.01


@dataclass
class Process:
    """One thread after another asks to leave, in virtual time; `left_at` tells when each did. `oversleeps`: seconds,
    once."""

    now: float = 1000.0
    left_at: list[float] = field(default_factory=list)
    oversleeps: float = 0.0

    def __post_init__(self) -> None:
        self.spacing = Spacing(self._sleep, lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds + self.oversleeps
        self.oversleeps = 0.0

    def leave(self) -> None:
        self.spacing.wait_to_leave()
        self.left_at.append(self.now)

    def take(self, slots: int, gap: float, *, is_crowded: bool = True) -> None:
        for number in range(slots):
            self.spacing.note_slot(self.now + number * gap, INTERVAL, is_crowded=is_crowded)


def test_requests_that_leave_as_their_slots_were_wait_for_nothing() -> None:
    process = Process()
    process.take(20, gap=0.01)
    for _ in range(20):
        process.leave()
        process.now += 0.01
    assert process.left_at == pytest.approx([1000 + 0.01 * number for number in range(20)])


def test_what_a_stall_let_gather_leaves_in_good_order() -> None:
    process = Process()
    process.take(20, gap=0.01)
    process.now += 0.2
    for _ in range(20):
        process.leave()
    gaps = [after - before for before, after in zip(process.left_at, process.left_at[1:], strict=False)]
    assert sum(gap < 0.001 for gap in gaps) == AT_ONCE - 1
    assert process.left_at[-1] - process.left_at[0] > (20 - AT_ONCE - 0.5) * 0.0098


def test_what_slept_through_its_moment_leaves_in_good_order_too() -> None:
    """A process that stood still finds that the moments of many of its threads are over."""
    process = Process()
    process.take(20, gap=0.01)
    for _ in range(AT_ONCE):
        process.leave()
    process.oversleeps = 0.2
    for _ in range(20):
        process.leave()
    late = process.left_at[AT_ONCE:]
    assert sum(at < late[0] + 0.001 for at in late) == AT_ONCE
    assert late[-1] - late[0] > (20 - AT_ONCE - 0.5) * 0.0098


def test_a_process_that_this_kept_waiting_does_not_stay_slow_for_ever() -> None:
    """It got few slots because it asked for few; the fleet has more, and no other process wants them."""
    process = Process()
    process.take(20, gap=0.1)
    process.now += 2
    for _ in range(100):
        process.take(1, gap=0.0, is_crowded=False)
        process.leave()
        process.now += 0.001
    assert process.left_at[-1] - process.left_at[-2] == pytest.approx(INTERVAL, rel=0.05)


@pytest.mark.parametrize("is_crowded", [True, False], ids=["crowded", "alone"])
@pytest.mark.parametrize("together", [2, 5])
def test_slots_that_are_told_of_in_any_order_lie_no_further_apart(together: int, is_crowded: bool) -> None:
    """Several threads wait for the lock. Their slots, taken for gaps of two, would make the process slower than its
    slots."""
    process = Process()
    for first in range(0, 200, together):
        for number in reversed(range(first, first + together)):
            process.spacing.note_slot(process.now + number * INTERVAL, INTERVAL, is_crowded=is_crowded)
    process.now += 200 * INTERVAL
    for _ in range(50):
        process.leave()
    assert process.left_at[-1] - process.left_at[0] == pytest.approx((50 - AT_ONCE) * INTERVAL, rel=0.15)


def test_a_few_slots_tell_how_many_processes_there_are() -> None:
    process = Process()
    process.take(8, gap=4 * INTERVAL)
    process.now += 8 * 4 * INTERVAL
    for _ in range(AT_ONCE + 1):
        process.leave()
    assert process.left_at[-1] - process.left_at[0] > 2.5 * INTERVAL


def test_a_hold_between_two_slots_is_no_gap() -> None:
    process = Process()
    process.take(20, gap=0.01)
    process.now += 60
    process.take(20, gap=0.01)
    process.left_at.clear()
    for _ in range(20):
        process.leave()
    assert process.left_at[-1] - process.left_at[0] < 0.3


def test_before_the_first_slot_nothing_is_known_and_nobody_waits() -> None:
    process = Process()
    for _ in range(10):
        process.leave()
    assert process.left_at == [1000.0] * 10


@pytest.mark.parametrize("slots_before", [1, 2, 20])
def test_a_process_that_was_idle_lets_nobody_wait_for_that(slots_before: int) -> None:
    process = Process()
    process.take(slots_before, gap=600.0, is_crowded=False)
    process.now += 600 * slots_before
    process.take(1, gap=0.0, is_crowded=False)
    asked_at = process.now
    for _ in range(10):
        process.leave()
    assert process.left_at[-1] - asked_at < 10 * INTERVAL


def test_slots_of_many_processes_lie_further_apart_in_each() -> None:
    process = Process()
    process.take(100, gap=20 * INTERVAL)
    process.now += 60
    asked_at = process.now
    for _ in range(13):
        process.leave()
    assert process.left_at[-1] - asked_at == pytest.approx((13 - AT_ONCE) * 20 * INTERVAL, rel=0.1)


def test_a_clock_of_redis_that_goes_back_lets_nothing_leave_at_once() -> None:
    """As after a fail-over: the slots lie in the past, for all that this process knows."""
    process = Process()
    process.take(20, gap=INTERVAL)
    process.spacing.note_slot(process.now + 3600, INTERVAL, is_crowded=True)
    process.take(200, gap=INTERVAL)
    process.now += 300 * INTERVAL
    for _ in range(20):
        process.leave()
    assert process.left_at[-1] - process.left_at[0] > (20 - AT_ONCE) * 0.75 * INTERVAL


def test_a_clock_that_was_set_back_makes_no_process_leave_faster() -> None:
    """One that has every fourth slot goes on leaving that far apart: it does not take slots of the past for crowded."""
    process = Process()
    process.now += 3600
    process.take(200, gap=4 * INTERVAL)
    process.now -= 3600
    process.take(200, gap=4 * INTERVAL)
    for _ in range(40):
        process.leave()
    gaps = [after - before for before, after in zip(process.left_at, process.left_at[1:], strict=False)]
    assert gaps[-1] > 3 * INTERVAL
