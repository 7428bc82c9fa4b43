"""Work that is due and does not move: for how long, and why, as `status` reads it. On both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import UNKNOWN, ScriptedFleet

from models.batch import BatchState
from worker.fleet import Processes, Sickness
from worker.reports.facts import read_statuses
from worker.reports.stall import STILL_AFTER, Cause
from worker.rules.progress import Active


def test_a_batch_whose_due_work_does_not_move_says_for_how_long_and_why(database: MovingDatabase) -> None:
    made = make_batch(database, 2)
    (status,) = read_statuses(database, made.name)
    assert (status.still_for or 0.0) < 5
    assert status.stall is None

    database.ahead += STILL_AFTER + 1
    (status,) = read_statuses(database, made.name)

    assert status.stall is not None
    assert status.stall.cause == Cause.WORKER
    assert status.to_json()["stall"]["cause"] == "worker"


def test_any_end_of_an_attempt_is_movement(database: MovingDatabase, scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(database, 3)
    first, second, _ = scripted_fleet.tick()
    database.ahead += STILL_AFTER + 1
    scripted_fleet.end(first, UNKNOWN)
    (status,) = read_statuses(database, made.name)
    assert status.stall is None

    database.ahead += STILL_AFTER + 1
    scripted_fleet.end(second, Active())
    (status,) = read_statuses(database, made.name)
    assert status.stall is None


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.CANCELLED])
def test_a_batch_that_does_not_run_does_not_stand_still(database: MovingDatabase, state: BatchState) -> None:
    made = make_batch(database, 2, state=state)
    database.ahead += 10 * STILL_AFTER
    (status,) = read_statuses(database, made.name)
    assert (status.still_for, status.stall) == (None, None)


def test_what_is_not_due_yet_does_not_stand_still(database: MovingDatabase) -> None:
    made = make_batch(database, 1, scheduled_at=database.read_clock() + timedelta(hours=1))
    database.ahead += 10 * STILL_AFTER
    (status,) = read_statuses(database, made.name)
    assert status.still_for is None


def test_a_process_that_takes_no_work_is_told_with_every_batch(database: MovingDatabase) -> None:
    make_batch(database, 1)
    for name in ("host:1", "host:2"):
        Processes(database, name).show_life()
    assert Processes(database, "host:1").fall_sick(Sickness("network", "PingOne cannot be reached."))

    (status,) = read_statuses(database)

    assert status.to_json()["sick_processes"] == ["host:1"]
