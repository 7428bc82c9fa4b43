"""The worker processes as the database knows them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from support.data.moving_clock import MovingDatabase

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

BROKEN = Sickness("network", "PingOne cannot be reached.")


def known(database: MovingDatabase) -> dict[str, KnownProcess]:
    with database.reading() as connection:
        return {process.name: process for process in read_processes(database, connection)}


def test_a_process_lives_as_long_as_it_shows_it(database: MovingDatabase) -> None:
    process = Processes(database, "host:1")
    process.show_life()
    assert known(database)["host:1"].is_alive

    database.ahead += GONE_AFTER + 1
    assert not known(database)["host:1"].is_alive

    process.show_life()
    assert known(database)["host:1"].is_alive


def test_one_that_ends_is_forgotten_and_so_is_one_that_was_killed_long_ago(database: MovingDatabase) -> None:
    ended, killed = Processes(database, "host:1"), Processes(database, "host:2")
    ended.show_life()
    killed.show_life()

    ended.leave()
    assert known(database).keys() == {"host:2"}
    database.ahead += KEPT_FOR + 1
    Processes(database, "host:3").show_life()
    assert known(database).keys() == {"host:3"}


def test_a_tick_is_noted_every_few_seconds(database: MovingDatabase) -> None:
    process = Processes(database, "host:1")
    process.show_life()
    assert known(database)["host:1"].seconds_since_tick is None
    noted = []
    for _ in range(8):
        with database.writing() as connection:
            process.note_tick(connection)
            noted.append(process.last_tick_at(connection))
        database.ahead += 1

    assert len(set(noted)) == 2
    # A clock that was set back does not leave the last tick in the future.
    database.ahead -= 3600
    with database.writing() as connection:
        process.note_tick(connection)
    seconds = known(database)["host:1"].seconds_since_tick
    assert seconds is not None
    assert abs(seconds) < 60


def test_one_that_fails_alone_is_named_for_as_long_as_its_supervisor_may_wait(database: MovingDatabase) -> None:
    sick, well = Processes(database, "host:1"), Processes(database, "host:2")
    sick.show_life()
    well.show_life()

    assert sick.fall_sick(BROKEN)
    found = known(database)["host:1"]
    assert (found.reason, found.detail) == ("network", "PingOne cannot be reached.")
    assert found.sick_since is not None
    assert not found.is_alive
    with database.reading() as connection:
        assert count_well(database, connection) == 1

    database.ahead += NAMED_FOR + 1
    assert "host:1" not in known(database)


def test_the_last_one_that_is_well_cannot_fall_sick(database: MovingDatabase) -> None:
    first, second = Processes(database, "host:1"), Processes(database, "host:2")
    first.show_life()
    second.show_life()

    assert first.fall_sick(BROKEN)
    assert not second.fall_sick(BROKEN)
    assert known(database)["host:2"].sick_since is None


def test_one_that_is_gone_is_no_help(database: MovingDatabase) -> None:
    Processes(database, "host:1").show_life()
    database.ahead += GONE_AFTER + 1
    left = Processes(database, "host:2")
    left.show_life()
    assert not left.fall_sick(BROKEN)


def test_of_many_that_fall_sick_at_once_one_stays(database: MovingDatabase) -> None:
    processes = [Processes(database, f"host:{number}") for number in range(6)]
    for process in processes:
        process.show_life()
    with ThreadPoolExecutor(len(processes)) as pool:
        spared = list(pool.map(lambda process: process.fall_sick(BROKEN), processes))
    assert sorted(spared) == [False] + [True] * 5


def test_a_process_says_once_which_version_it_is(database: MovingDatabase) -> None:
    process = Processes(database, "host:1")
    process.show_life()
    process.show_life()
    assert known(database)["host:1"].version == version("oathbulk")
