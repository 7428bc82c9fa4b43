"""A simulator for the tests of a module, and the commands that undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import Desk, PingOne

from models.encrypted import Keyring
from worker.simulator.call_log import CallLog
from worker.simulator.server import running
from worker.simulator.simulation import Simulation


@pytest.fixture(scope="module")
def listening() -> Iterator[PingOne]:
    simulation = Simulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url:
        yield PingOne(simulation, url)


@pytest.fixture
def pingone(listening: PingOne) -> PingOne:
    listening.simulation.reset()
    listening.simulation.change({"job_takes": 0})
    listening.seed()
    return listening


@pytest.fixture
def desk(
    database: MovingDatabase, pingone: PingOne, valkey_url: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    with closing(Desk(database, pingone, valkey_url, keyring)) as desk:
        monkeypatch.setattr("worker.process.undo_parts.time.sleep", desk.wait)
        yield desk
