"""The database's clock is set while a fleet works: no lease is taken away, no device is read too soon, nothing waits
for an hour. On both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.batches import look, look_at_batch, make_batch
from support.moving_clock import MovingDatabase
from support.works import HELD, UNKNOWN, Works

from models.record import Status
from worker.batches.commands import HoursChange
from worker.clocks.boot_clock import boot_time
from worker.clocks.clock_watch import ClockWatch
from worker.leases.attempt_line import CallSummary
from worker.leases.clock_jumps import SOON
from worker.leases.worker import Leases
from worker.rules.hours import DailyHours
from worker.rules.steps import Active, Retry

HOUR = 3600.0
STEPS = (-HOUR, -90.0, 90.0, HOUR)


@pytest.fixture
def works(database: MovingDatabase, leases: Leases) -> Works:
    """A dispatcher that has seen the clock once, and whose own clock does not move with it."""
    works = Works(database, leases)
    works._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    works.tick()
    return works


@pytest.mark.parametrize("step", STEPS)
def test_a_lease_is_not_taken_away_from_a_living_worker(works: Works, leases: Leases, step: float) -> None:
    made = make_batch(works.database, 1)
    works.tick()
    claim = works.claim(made.id)

    works.database.ahead += step
    works.tick()

    assert look(works.database, made.id).status == Status.ACTIVATING
    assert leases.settle(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1))


@pytest.mark.parametrize("step", STEPS)
def test_a_dead_workers_record_is_read_a_whole_delay_after_the_step(works: Works, step: float) -> None:
    made = make_batch(works.database, 1)
    works.tick()
    works.claim(made.id)

    works.database.ahead += step
    works.tick()
    works._dispatcher._clock_watch = ClockWatch(lambda: boot_time() + works.database.ahead, lambda: 0.0)
    works.pass_time(61)
    assert works.tick() == [made.id]
    # 60 s of lease are more than the 55 s until it may be read.
    assert works.claim(made.id).progress.is_open


@pytest.mark.parametrize("step", STEPS)
def test_a_loss_of_a_moment_ago_is_not_read_because_the_clock_moved(works: Works, step: float) -> None:
    made = make_batch(works.database, 1)
    works.tick()
    works.end(made.id, Retry(30.0, is_counted=True, why="outcome_unknown"))

    works.database.ahead += step

    assert works.tick() == []
    due_in = look(works.database, made.id).scheduled_at - works.database.read_clock()
    assert timedelta(seconds=50) < due_in < timedelta(seconds=56)


def test_nothing_waits_for_an_hour_because_the_clock_was_an_hour_ahead(works: Works) -> None:
    made = make_batch(works.database, 2)
    works.database.ahead += HOUR
    works.tick()
    first, second = made.ids
    works.end(first, HELD)
    works.end(second, UNKNOWN)

    works.database.ahead -= HOUR
    works.tick()

    soonest = min(look(works.database, number).scheduled_at for number in made.ids)
    assert soonest - works.database.read_clock() <= timedelta(seconds=SOON)
    assert all(
        look(works.database, number).scheduled_at - works.database.read_clock() < timedelta(seconds=60)
        for number in made.ids
    )


def test_a_probe_comes_soon_although_the_clock_was_ahead(works: Works) -> None:
    made = make_batch(works.database, 5)
    works.begin_outage(made)
    works.database.ahead -= HOUR

    works.tick()

    assert works.seconds_to_probe(made) <= 15


def test_a_window_is_looked_at_again(works: Works) -> None:
    """By the wrong clock it had closed."""
    made = make_batch(works.database, 1)
    works.set_clock("2026-11-27T12:00:00")
    works._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    works.tick()
    works.batches.resume(made.name, HoursChange(DailyHours.parse("18:00-13:00", "UTC")))
    works.database.ahead += 2 * HOUR
    works.tick()
    assert look_at_batch(works.database, made.batch_id).reason == "window"

    works.database.ahead -= 2 * HOUR
    works.tick()

    assert works.state(made) == ("running", None)
