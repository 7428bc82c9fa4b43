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

    def leave(self, times: int) -> None:
        for _ in range(times):
            self.spacing.wait_to_leave(INTERVAL)
            self.left_at.append(self.now)


def test_requests_that_leave_as_their_slots_were_wait_for_nothing() -> None:
    process = Process()
    for _ in range(20):
        process.leave(1)
        process.now += INTERVAL
    assert process.left_at == pytest.approx([1000 + INTERVAL * number for number in range(20)])


@pytest.mark.parametrize("idle", [0.2, 600.0], ids=["after a stall", "after ten idle minutes"])
def test_what_gathered_leaves_in_good_order(idle: float) -> None:
    process = Process()
    process.leave(20)
    process.left_at.clear()
    process.now += idle
    process.leave(20)
    assert process.left_at[AT_ONCE - 1] == process.left_at[0]
    assert process.left_at[-1] - process.left_at[0] == pytest.approx((20 - AT_ONCE) * INTERVAL, rel=0.01)


def test_what_slept_through_its_moment_leaves_in_good_order_too() -> None:
    """A process that stood still finds that the moments of many of its threads are over."""
    process = Process()
    process.leave(AT_ONCE)
    process.oversleeps = 0.2
    process.leave(20)
    late = process.left_at[AT_ONCE:]
    assert sum(at < late[0] + 0.001 for at in late) == AT_ONCE
    assert late[-1] - late[0] > (20 - AT_ONCE - 0.5) * 0.0098


def test_what_lags_catches_up_little_by_little() -> None:
    process = Process()
    process.leave(400 + AT_ONCE)
    assert process.left_at[-1] - process.left_at[0] == pytest.approx(398 * INTERVAL, rel=0.001)
