from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from worker.pingone.spacing import AT_ONCE, Spacing

# Between the fleet's slots, in seconds.
INTERVAL = 0.01


@dataclass
class Process:
    """One thread after another asks to leave, in virtual time; `left_at` tells when each did."""

    now: float = 1000.0
    left_at: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._wait = 0.0
        self.spacing = Spacing(self._sleep, lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self._wait = seconds

    def leave(self) -> None:
        self._wait = 0.0
        self.spacing.leave()
        self.left_at.append(self.now + self._wait)

    def take(self, slots: int, gap: float, *, is_crowded: bool = True) -> None:
        for number in range(slots):
            self.spacing.took(self.now + number * gap, INTERVAL, is_crowded=is_crowded)


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


def test_a_hold_between_two_slots_is_no_gap() -> None:
    process = Process()
    process.take(20, gap=0.01)
    process.now += 60
    process.take(20, gap=0.01)
    process.left_at.clear()
    for _ in range(20):
        process.leave()
    assert process.left_at[-1] - process.left_at[0] < 0.3


def test_before_a_second_slot_nothing_is_known_and_nobody_waits() -> None:
    process = Process()
    process.take(1, gap=0.0)
    for _ in range(10):
        process.leave()
    assert process.left_at == [1000.0] * 10


@pytest.mark.parametrize("slots_before", [1, 2, 20])
def test_a_process_that_was_idle_lets_nobody_wait_for_that(slots_before: int) -> None:
    process = Process()
    process.take(slots_before, gap=600.0, is_crowded=False)
    process.now += 600 * slots_before
    process.take(1, gap=0.0, is_crowded=False)
    for _ in range(10):
        process.leave()
    assert process.left_at[-1] - process.now < 10 * INTERVAL


def test_slots_of_many_processes_lie_further_apart_in_each() -> None:
    process = Process()
    process.take(40, gap=20 * INTERVAL)
    process.now += 60
    for _ in range(13):
        process.leave()
    assert process.left_at[-1] - process.now == pytest.approx((13 - AT_ONCE) * 20 * INTERVAL, rel=0.1)
