"""The database's clock is set while a fleet works: no lease is taken away, no device is read too soon, nothing waits
for an hour. On both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.data.batches import look, look_at_batch, make_batch
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import HELD, UNKNOWN, ScriptedFleet

from models.record_states import Status
from worker.batches.commands import HoursChange
from worker.clocks import ClockWatch, boot_time
from worker.leases.queue import SOON
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.rules.hours import DailyHours
from worker.rules.progress import Active, Retry

HOUR = 3600.0
STEPS = (-HOUR, -90.0, 90.0, HOUR)


@pytest.fixture
def scripted_fleet(database: MovingDatabase, leases: Leases) -> ScriptedFleet:
    """A dispatcher that has seen the clock once, and whose own clock does not move with it."""
    scripted_fleet = ScriptedFleet(database, leases)
    scripted_fleet._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    scripted_fleet.tick()
    return scripted_fleet


@pytest.mark.parametrize("step", STEPS)
def test_a_lease_is_not_taken_away_from_a_living_worker(
    scripted_fleet: ScriptedFleet, leases: Leases, step: float
) -> None:
    made = make_batch(scripted_fleet.database, 1)
    scripted_fleet.tick()
    claim = scripted_fleet.claim(made.id)

    scripted_fleet.database.ahead += step
    scripted_fleet.tick()

    assert look(scripted_fleet.database, made.id).status == Status.ACTIVATING
    assert leases.settle(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1))


@pytest.mark.parametrize("step", STEPS)
def test_a_dead_workers_record_is_read_a_whole_delay_after_the_step(scripted_fleet: ScriptedFleet, step: float) -> None:
    made = make_batch(scripted_fleet.database, 1)
    scripted_fleet.tick()
    scripted_fleet.claim(made.id)

    scripted_fleet.database.ahead += step
    scripted_fleet.tick()
    scripted_fleet._dispatcher._clock_watch = ClockWatch(
        lambda: boot_time() + scripted_fleet.database.ahead, lambda: 0.0
    )
    scripted_fleet.pass_time(61)
    assert scripted_fleet.tick() == [made.id]
    # 60 s of lease are more than the 55 s until it may be read.
    assert scripted_fleet.claim(made.id).progress.is_open


@pytest.mark.parametrize("step", STEPS)
def test_a_loss_of_a_moment_ago_is_not_read_because_the_clock_moved(scripted_fleet: ScriptedFleet, step: float) -> None:
    made = make_batch(scripted_fleet.database, 1)
    scripted_fleet.tick()
    scripted_fleet.end(made.id, Retry(30.0, is_counted=True, why="outcome_unknown"))

    scripted_fleet.database.ahead += step

    assert scripted_fleet.tick() == []
    due_in = look(scripted_fleet.database, made.id).scheduled_at - scripted_fleet.database.read_clock()
    assert timedelta(seconds=30) < due_in < timedelta(seconds=56)


@pytest.mark.parametrize("step", STEPS)
def test_when_something_was_sent_is_not_forgotten_unless_it_lies_in_the_future(
    scripted_fleet: ScriptedFleet, step: float
) -> None:
    """By it a device that somebody else made is known."""
    made = make_batch(scripted_fleet.database, 1)
    scripted_fleet.tick()
    scripted_fleet.claim(made.id)
    sent_at = look(scripted_fleet.database, made.id).otp_sent_at

    scripted_fleet.database.ahead += step
    scripted_fleet.tick()

    assert look(scripted_fleet.database, made.id).otp_sent_at <= sent_at
    assert (look(scripted_fleet.database, made.id).otp_sent_at == sent_at) is (step > 0)


def test_nothing_waits_for_an_hour_because_the_clock_was_an_hour_ahead(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 2)
    scripted_fleet.database.ahead += HOUR
    scripted_fleet.tick()
    first, second = made.ids
    scripted_fleet.end(first, HELD)
    scripted_fleet.end(second, UNKNOWN)

    scripted_fleet.database.ahead -= HOUR
    scripted_fleet.tick()

    soonest = min(look(scripted_fleet.database, number).scheduled_at for number in made.ids)
    assert soonest - scripted_fleet.database.read_clock() <= timedelta(seconds=SOON)
    assert all(
        look(scripted_fleet.database, number).scheduled_at - scripted_fleet.database.read_clock()
        < timedelta(seconds=60)
        for number in made.ids
    )


def test_a_probe_comes_soon_although_the_clock_was_ahead(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 5)
    scripted_fleet.begin_outage(made)
    scripted_fleet.database.ahead -= HOUR

    scripted_fleet.tick()

    assert scripted_fleet.seconds_to_probe(made) <= 15


def test_a_window_is_looked_at_again(scripted_fleet: ScriptedFleet) -> None:
    """By the wrong clock it had closed."""
    made = make_batch(scripted_fleet.database, 1)
    scripted_fleet.set_clock("2026-11-27T12:00:00")
    scripted_fleet._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    scripted_fleet.tick()
    scripted_fleet.batches.resume(made.name, HoursChange(DailyHours.parse("18:00-13:00", "UTC")))
    scripted_fleet.database.ahead += 2 * HOUR
    scripted_fleet.tick()
    assert look_at_batch(scripted_fleet.database, made.batch_id).reason == "window"

    scripted_fleet.database.ahead -= 2 * HOUR
    scripted_fleet.tick()

    assert scripted_fleet.state(made) == ("running", None)
