"""A worker process that fails alone takes no more work, and comes back when it is well."""

from __future__ import annotations

import pytest

from worker.fleet.fitness import Fitness
from worker.fleet.processes import Sickness

BROKEN = Sickness("network", "PingOne cannot be reached.")


class Fleet:
    """Stands for the database: whether the other processes are well, and what it was told."""

    def __init__(self) -> None:
        self.others_are_well = True
        self.told: list[object] = []

    def fall_sick(self, sickness: Sickness) -> bool:
        self.told += [sickness] if self.others_are_well else []
        return self.others_are_well

    def recover(self) -> None:
        self.told.append("recovered")

    def is_needed(self) -> bool:
        return not self.others_are_well

    def show_life(self) -> None:
        self.told.append("alive")


class Queues:
    is_open = True

    def close(self) -> None:
        self.is_open = False

    def open(self) -> None:
        self.is_open = True


class Process:
    """A process that takes messages, and is checked by the test."""

    def __init__(self) -> None:
        self.fleet, self.queues, self.is_well = Fleet(), Queues(), False
        self.fitness = Fitness(self.fleet, lambda _: self.is_well)  # type: ignore[arg-type]
        self.fitness._source = self.queues


@pytest.fixture
def process() -> Process:
    return Process()


def test_who_fails_alone_takes_no_more_work(process: Process) -> None:
    assert process.fitness.fall_sick(BROKEN)

    assert process.fitness.is_sick
    assert not process.queues.is_open
    assert process.fleet.told == [BROKEN]


def test_who_is_the_only_one_works_on(process: Process) -> None:
    process.fleet.others_are_well = False

    assert not process.fitness.fall_sick(BROKEN)

    assert not process.fitness.is_sick
    assert process.queues.is_open


def test_who_takes_no_messages_yet_cannot_be_spared() -> None:
    assert not Fitness(Fleet(), lambda _: True).fall_sick(BROKEN)  # type: ignore[arg-type]


def test_it_is_told_once(process: Process) -> None:
    assert process.fitness.fall_sick(BROKEN)
    assert process.fitness.fall_sick(BROKEN)
    assert process.fleet.told == [BROKEN]


def test_it_stays_away_while_it_is_sick_and_comes_back_when_it_is_well(process: Process) -> None:
    process.fitness.fall_sick(BROKEN)
    process.fitness.check()
    assert process.fitness.is_sick

    process.is_well = True
    process.fitness.check()

    assert not process.fitness.is_sick
    assert process.queues.is_open
    assert process.fleet.told == [BROKEN, "alive", "alive", "recovered"]


def test_it_comes_back_sick_as_it_is_when_nobody_else_is_left(process: Process) -> None:
    """Otherwise no process would do the dispatcher's work, and the batch would stand still without a word."""
    process.fitness.fall_sick(BROKEN)
    process.fleet.others_are_well = False

    process.fitness.check()

    assert process.queues.is_open
    assert not process.fitness.fall_sick(BROKEN)


def test_a_look_at_one_that_is_well_only_shows_life(process: Process) -> None:
    process.fitness.check()
    assert process.fleet.told == ["alive"]
