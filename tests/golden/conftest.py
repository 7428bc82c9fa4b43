"""The desk at which everything is typed, on a fresh copy of one prepared home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.data.undo_desk import PingOne
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from golden.comparing import Compare, compare
from golden.frozen_desk import FrozenDesk, freezing
from golden.prepared import DEVICES, prepare
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="Write the golden files of tests/golden anew.")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder whose path has the same length everywhere."""
    path = Path(tempfile.mkdtemp(prefix="oathbulk-golden-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def prepared(folder: Path, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what was prepared in that folder."""
    copy = tmp_path_factory.mktemp("golden") / "prepared"
    with freezing(folder, copy) as desk:
        prepare(desk, sqlite_template)
    return Path(shutil.copytree(folder, copy))


@pytest.fixture
def desk(folder: Path, prepared: Path) -> Iterator[FrozenDesk]:
    with freezing(folder, prepared) as desk:
        desk.reset()
        yield desk


@pytest.fixture(scope="session")
def simulator() -> Iterator[PingOne]:
    """A PingOne that listens."""
    with running(simulation := WatchedSimulation()) as url:
        yield PingOne(simulation, url)


@pytest.fixture
def asking_desk(desk: FrozenDesk, simulator: PingOne, valkey_url: str) -> FrozenDesk:
    """A desk whose commands ask the simulator, which has not all devices as they should be."""

    def seed() -> None:
        simulator.simulation.reset()
        simulator.simulation.change({"job_takes": 0})
        simulator.seed(devices=DEVICES, tokens=[{"serial": "MADE005000000"}])

    desk.before_each = seed
    desk.variables |= {
        "OATHBULK_REDIS_URL": valkey_url,
        "PINGONE_CLIENT_ID": CLIENT_ID,
        "PINGONE_CLIENT_SECRET": CLIENT_SECRET,
        "PINGONE_API_URL": f"{simulator.url}/v1",
        "PINGONE_TOKEN_URL": f"{simulator.url}/{{env}}/as/token",
    }
    return desk


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Compare:
    """Holds what is shown to its golden file."""
    return partial(compare, writes=request.config.getoption("--write-golden", default=False))
