"""The desk at which everything is typed, on a fresh copy of one prepared home; and what compares what was shown with
its golden file, and writes that anew where somebody asks for it."""

import difflib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from golden.frozen_desk import FrozenDesk, freezing
from golden.prepared import DEVICES, prepare
from support.data.undo_desk import PingOne
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from worker import __version__
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET

FILES = Path(__file__).parent
HOW_TO_WRITE = (
    "If that is meant: rm -r tests/golden/*/ && python -m pytest tests/golden --write-golden; git shows"
    " what changed, and the commit says why."
)
# What differs from run to run, and what stands in its place. A path keeps its length, since lines are broken at widths.
RULES = (
    (re.compile(r"/tmp/oathbulk-golden-[a-z0-9_]{8}"), "/tmp/oathbulk-golden-FOLDER__"),
    (re.compile(rf"(?<![\d.]){re.escape(__version__)}(?!\d)"), "VERSION"),
    (re.compile(r'(name="form_key" value=)"[0-9a-f]+"'), r'\1"KEY"'),
    (re.compile(r"[0-9.]+ [MGT]B free"), "SIZE free"),
    # A line that is drawn again and again and taken away in the end, while the cursor is hidden; and colors.
    (re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h", re.DOTALL), ""),
    (re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\r"), ""),
    # What fills a line up to its end is not seen.
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


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
def hold(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Holds what is shown to the golden file of this name; JSON by its values. Fails with the difference."""
    writes = request.config.getoption("--write-golden", default=False)

    def compare(name: str, shown: str) -> None:
        path, text = FILES / name, shown
        for pattern, placeholder in RULES:
            text = pattern.sub(placeholder, text)
        if path.suffix == ".json":
            text = json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        if writes:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        golden = path.read_text(encoding="utf-8") if path.exists() else ""
        told = [*difflib.unified_diff(golden.splitlines(), text.splitlines(), f"tests/golden/{name}", "shown")]
        assert not told, "\n".join([*told, HOW_TO_WRITE])

    return compare
