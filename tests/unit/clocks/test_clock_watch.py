"""Whether the watch sees that the database's clock was set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.clocks import TOLERANCE, UNWATCHED, ClockWatch, boot_time, suspended_time

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


class World:
    """A machine and a database, each with a clock of its own; `lag` is what an answer takes."""

    def __init__(self) -> None:
        self.passed = self.ahead = self.lag = self.suspended = 0.0
        self.watch = ClockWatch(lambda: self.passed, lambda: self.suspended)

    def read(self) -> datetime:
        now = NOON + timedelta(seconds=self.passed + self.ahead)
        self.passed += self.lag
        return now

    def is_steady(self, last_tick_at: datetime | None = None) -> bool:
        return self.watch.is_steady(self.read, last_tick_at)


@pytest.fixture
def world() -> World:
    return World()


def test_time_that_passes_for_both_is_steady(world: World) -> None:
    for seconds in (0.0, 1.0, 3600.0, 86400.0):
        world.passed += seconds
        assert world.is_steady()


@pytest.mark.parametrize("step", [-3600.0, -90.0, -5.0, 5.0, 90.0, 3600.0])
def test_a_step_is_noticed_once_in_either_direction(world: World, step: float) -> None:
    assert world.is_steady()
    world.ahead += step
    assert not world.is_steady()
    world.passed += 1
    assert world.is_steady()


def test_clocks_that_drift_and_answers_that_are_late_are_no_step(world: World) -> None:
    assert world.is_steady()
    for lag in (0.0, 30.0, 0.1):
        world.lag, world.ahead = lag, world.ahead + TOLERANCE / 4
        assert world.is_steady()


def test_a_machine_that_was_suspended_may_have_missed_anything(world: World) -> None:
    assert world.is_steady()
    world.suspended = 600.0
    world.passed += 600.0
    assert not world.is_steady()
    assert world.is_steady()


def test_who_never_looked_trusts_the_clock_if_others_looked_a_moment_ago(world: World) -> None:
    assert world.is_steady(NOON - timedelta(seconds=UNWATCHED - 1))


@pytest.mark.parametrize("last", [-UNWATCHED - 1, UNWATCHED + 1, -86400.0])
def test_who_never_looked_mistrusts_it_if_nobody_did_for_long(world: World, last: float) -> None:
    assert not world.is_steady(NOON + timedelta(seconds=last))


def test_a_fleet_that_never_ticked_has_nothing_to_mistrust(world: World) -> None:
    assert world.is_steady(None)


def test_the_clock_of_the_machine_goes_on_while_it_is_suspended() -> None:
    assert suspended_time(lambda: 700.0, lambda: 100.0) == 600.0
    before = boot_time()
    assert boot_time() >= before
