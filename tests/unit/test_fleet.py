"""A worker process that fails alone ends, and says why."""

from __future__ import annotations

import os
import signal

import pytest

from worker.fleet import Fitness, Sickness

BROKEN = Sickness("network", "PingOne cannot be reached.")


class Fleet:
    """Stands for the database: whether the other processes are well, and what it was told."""

    name = "host:1"

    def __init__(self) -> None:
        self.others_are_well = True
        self.told: list[object] = []

    def fall_sick(self, sickness: Sickness) -> bool:
        self.told += [sickness] if self.others_are_well else []
        return self.others_are_well


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def fitness(fleet: Fleet) -> Fitness:
    return Fitness(fleet)  # type: ignore[arg-type]


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_who_fails_alone_asks_itself_to_end(fleet: Fleet, fitness: Fitness, signals: list[tuple[int, int]]) -> None:
    assert fitness.fall_sick(BROKEN)

    assert fitness.is_sick
    assert signals == [(os.getpid(), signal.SIGTERM)]
    assert fleet.told == [BROKEN]


def test_who_is_the_only_one_works_on(fleet: Fleet, fitness: Fitness, signals: list[tuple[int, int]]) -> None:
    fleet.others_are_well = False

    assert not fitness.fall_sick(BROKEN)

    assert not fitness.is_sick
    assert signals == []


def test_it_is_told_once(fleet: Fleet, fitness: Fitness, signals: list[tuple[int, int]]) -> None:
    assert fitness.fall_sick(BROKEN)
    assert fitness.fall_sick(BROKEN)
    assert len(fleet.told) == len(signals) == 1
