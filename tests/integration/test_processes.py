"""The worker processes as the database knows them, and work that is due and does not move: for how long, and why, as
`status` reads it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version

import pytest
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import UNKNOWN, ScriptedFleet

from models.batch import BatchState
from worker.fleet import (
    GONE_AFTER,
    KEPT_FOR,
    NAMED_FOR,
    KnownProcess,
    Processes,
    Sickness,
    count_well,
    read_processes,
)
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.stall import STILL_AFTER, Cause
from worker.rules.steps import Active

# For what is no SQL of its own on either database.
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
BROKEN = Sickness("network", "PingOne cannot be reached.")


def known(database: MovingDatabase) -> dict[str, KnownProcess]:
    with database.reading() as connection:
        return {process.name: process for process in read_processes(database, connection)}


def begin(database: MovingDatabase, *names: str) -> list[Processes]:
    processes = [Processes(database, name) for name in names]
    for process in processes:
        process.show_life()
    return processes


@ON_ONE
def test_a_process_lives_as_long_as_it_shows_it_and_says_its_version(database: MovingDatabase) -> None:
    (process,) = begin(database, "host:1")
    for ahead, is_alive in ((0, True), (GONE_AFTER + 1, False)):
        database.ahead += ahead
        assert known(database)["host:1"].is_alive is is_alive
    process.show_life()
    assert known(database)["host:1"].is_alive
    assert known(database)["host:1"].version == version("oathbulk")


@ON_ONE
def test_one_that_ends_is_forgotten_and_so_is_one_that_was_killed_long_ago(database: MovingDatabase) -> None:
    ended, _ = begin(database, "host:1", "host:2")
    ended.leave()
    assert known(database).keys() == {"host:2"}
    database.ahead += KEPT_FOR + 1
    begin(database, "host:3")
    assert known(database).keys() == {"host:3"}


def test_a_tick_is_noted_every_few_seconds(database: MovingDatabase) -> None:
    (process,) = begin(database, "host:1")
    assert known(database)["host:1"].seconds_since_tick is None
    noted = set()
    for _ in range(8):
        with database.writing() as connection:
            process.note_tick(connection)
            noted.add(process.last_tick_at(connection))
        database.ahead += 1
    assert len(noted) == 2

    # A clock that was set back does not leave the last tick in the future.
    database.ahead -= 3600
    with database.writing() as connection:
        process.note_tick(connection)
    assert abs(known(database)["host:1"].seconds_since_tick) < 60


@ON_ONE
def test_one_that_fails_alone_is_named_for_a_while_and_the_last_one_that_is_well_cannot_fall_sick(
    database: MovingDatabase,
) -> None:
    sick, well = begin(database, "host:1", "host:2")
    assert [sick.fall_sick(BROKEN), well.fall_sick(BROKEN)] == [True, False]

    found = known(database)["host:1"]
    assert (found.reason, found.detail, found.is_alive) == (BROKEN.reason, BROKEN.detail, False)
    assert found.sick_since is not None
    assert known(database)["host:2"].sick_since is None
    with database.reading() as connection:
        assert count_well(database, connection) == 1

    # As long as its supervisor may wait before it starts it again.
    database.ahead += NAMED_FOR + 1
    assert "host:1" not in known(database)


@ON_ONE
def test_one_that_is_gone_is_no_help(database: MovingDatabase) -> None:
    begin(database, "host:1")
    database.ahead += GONE_AFTER + 1
    (left,) = begin(database, "host:2")
    assert not left.fall_sick(BROKEN)


def test_of_many_that_fall_sick_at_once_one_stays(database: MovingDatabase) -> None:
    processes = begin(database, *[f"host:{number}" for number in range(6)])
    with ThreadPoolExecutor(len(processes)) as pool:
        spared = list(pool.map(lambda process: process.fall_sick(BROKEN), processes))
    assert sorted(spared) == [False] + [True] * 5


def read_status(database: MovingDatabase, name: str) -> BatchStatus:
    (status,) = read_statuses(database, name)
    return status


@ON_ONE
def test_a_batch_whose_due_work_does_not_move_says_for_how_long_and_why_until_an_attempt_ends(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    made = make_batch(database, 3)
    first, second, _ = scripted_fleet.tick()
    assert (read_status(database, made.name).still_for or 0.0) < 5
    assert read_status(database, made.name).stall is None

    # However it ends, it is movement.
    for record_id, decision in ((first, UNKNOWN), (second, Active())):
        database.ahead += STILL_AFTER + 1
        still = read_status(database, made.name)
        assert still.still_for > STILL_AFTER
        assert (still.stall.cause, still.to_json()["stall"]["cause"]) == (Cause.WORKER, "worker")
        scripted_fleet.end(record_id, decision)
        assert read_status(database, made.name).stall is None


@ON_ONE
def test_what_is_stopped_or_not_due_yet_does_not_stand_still(database: MovingDatabase) -> None:
    for state in (BatchState.PAUSED, BatchState.CANCELLED):
        make_batch(database, 2, name=state, state=state)
    tomorrow = database.read_clock() + timedelta(days=1)
    make_batch(database, 1, name="early", scheduled_at=tomorrow)
    database.ahead += 10 * STILL_AFTER
    assert [(status.still_for, status.stall) for status in read_statuses(database)] == [(None, None)] * 3


@ON_ONE
def test_a_process_that_takes_no_work_is_told_with_every_batch(database: MovingDatabase) -> None:
    make_batch(database, 1)
    sick, _ = begin(database, "host:1", "host:2")
    assert sick.fall_sick(BROKEN)
    assert read_status(database, "shipment").to_json()["sick_processes"] == ["host:1"]
