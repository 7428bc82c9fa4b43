"""PingOne with the devices of a batch, and the command that undoes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import Desk, PingOne

from models.encrypted import Keyring
from worker.simulator.simulation import Simulation


@pytest.fixture
def pingone(listening: tuple[Simulation, str]) -> PingOne:
    pingone = PingOne(*listening)
    pingone.simulation.reset()
    pingone.simulation.change({"job_takes": 0})
    pingone.seed()
    return pingone


@pytest.fixture
def desk(
    database: MovingDatabase, pingone: PingOne, valkey_url: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    with closing(Desk(database, pingone, valkey_url, keyring)) as desk:
        monkeypatch.setattr("worker.process.parts.time.sleep", desk.wait)
        yield desk
