"""The processes of the fleet: one that fails alone ends, the room in a license's window is shared among batches, and a
database's clock that was set is noticed."""

import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from worker.clocks import TOLERANCE, UNWATCHED, ClockWatch, boot_time, suspended_time
from worker.dispatch import BatchWork, share_room
from worker.fleet import Fitness, Sickness


@pytest.mark.parametrize("others_are_well", [True, False])
def test_who_fails_alone_asks_itself_once_to_end_and_who_is_the_only_one_works_on(
    others_are_well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, told = list[Any](), list[Sickness]()
    monkeypatch.setattr(os, "kill", lambda *sent: signals.append(sent))
    fleet: Any = SimpleNamespace(name="host:1", fall_sick=lambda sickness: told.append(sickness) or others_are_well)
    fitness, broken = Fitness(fleet), Sickness("network", "PingOne cannot be reached.")
    assert [fitness.fall_sick(broken) for _ in range(2)] == [others_are_well] * 2
    assert fitness.is_sick == others_are_well
    assert signals == ([(os.getpid(), signal.SIGTERM)] if others_are_well else [])
    assert told == ([broken] if others_are_well else [broken, broken])


# Room, records due by batch, those of a batch in the window already, the most that a batch may have; what each gets.
SHARED = {
    "each batch gets an equal part": (12, {1: 1000, 2: 1000, 3: 1000}, {}, None, {1: 4, 2: 4, 3: 4}),
    "what a small batch leaves goes to the others": (99, {1: 1000, 2: 7, 3: 1000}, {}, None, {1: 46, 2: 7, 3: 46}),
    "a batch alone gets all": (64, {1: 1000}, {}, None, {1: 64}),
    "the last place goes to the batch with the least": (1, {1: 10, 2: 10}, {1: 50}, None, {2: 1}),
    "and does so whichever is asked first": (1, {1: 10, 2: 10}, {2: 50}, None, {1: 1}),
    "no more than it may have at once": (64, {1: 1000, 2: 1000}, {1: 2}, 3, {1: 1, 2: 3}),
    "nothing without room": (0, {1: 10, 2: 10}, {}, None, {}),
    "nor where too many are at work": (-5, {1: 10, 2: 10}, {}, None, {}),
}


@pytest.mark.parametrize(("room", "due", "counts", "most", "shares"), SHARED.values(), ids=SHARED)
def test_the_room_of_a_window_is_shared_among_its_batches(
    room: int, due: dict[int, int], counts: dict[int, int], most: int | None, shares: dict[int, int]
) -> None:
    left, got, in_window = dict(due), Counter[int](), Counter(counts)

    def enqueue(batch: BatchWork, part: int) -> int:
        taken = Counter({batch.batch_id: min(part, left[batch.batch_id])})
        left[batch.batch_id] -= taken.total()
        got.update(taken)
        in_window.update(taken)
        return taken.total()

    share_room(room, [BatchWork(batch_id, "default", most=most) for batch_id in due], in_window, enqueue)
    assert got == shares


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

    def is_steady(self, last_tick_at: datetime | None = None, **changes: float) -> bool:
        vars(self).update({name: getattr(self, name) + change for name, change in changes.items()})
        before = self.watch.read()
        return self.watch.is_steady(self.read(), before, last_tick_at)


@pytest.mark.parametrize("step", [-3600.0, -90.0, -5.0, 5.0, 90.0, 3600.0])
def test_a_step_of_the_database_s_clock_is_noticed_once_in_either_direction(step: float) -> None:
    world = World()
    assert all(world.is_steady(passed=seconds) for seconds in (0.0, 1.0, 3600.0, 86400.0))
    assert not world.is_steady(ahead=step)
    assert world.is_steady(passed=1)


def test_clocks_that_drift_and_answers_that_are_late_are_no_step() -> None:
    world = World()
    assert [world.is_steady(lag=lag, ahead=TOLERANCE / 4) for lag in (0.0, 30.0, -29.9)] == [True] * 3


def test_a_machine_that_was_suspended_may_have_missed_anything() -> None:
    world = World()
    assert world.is_steady()
    assert not world.is_steady(suspended=600.0, passed=600.0)
    assert world.is_steady()
    assert suspended_time(lambda: 700.0, lambda: 100.0) == 600.0
    before = boot_time()
    assert boot_time() >= before


@pytest.mark.parametrize(
    ("last", "trusts"),
    [(None, True), (1 - UNWATCHED, True), (-UNWATCHED - 1, False), (UNWATCHED + 1, False), (-86400.0, False)],
)
def test_who_never_looked_trusts_the_clock_if_others_looked_a_moment_ago_or_never(
    last: float | None, trusts: bool
) -> None:
    assert World().is_steady(None if last is None else NOON + timedelta(seconds=last)) is trusts
