"""The servers that tests ask for by name; each is started when the first test of a process asks."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import hypothesis
import pytest
from support.servers.postgres import EmptiedDatabases, PostgresServer
from support.servers.valkey import ValkeyServer

from worker.database import schema
from worker.database.engine import Database

Migrate = Callable[[str], None]

# No test touches the home of the person who runs it.
STATE = tempfile.mkdtemp(prefix="oathbulk-state-")
os.environ["XDG_STATE_HOME"] = STATE
atexit.register(shutil.rmtree, STATE, ignore_errors=True)

# A shell may start what it runs in the background with these ignored, and whoever is started from here would inherit
# that: no Ctrl-C of a test would arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A person on Debian or Ubuntu has 0002, by which the group could change a settings file: such a file is refused.
os.umask(0o022)

# Every run draws the same examples, so that a change is judged alike on every day and machine, and none judges the
# clock. An example that fails elsewhere is kept with @example.
hypothesis.settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")

# Rooms by how long a test of theirs takes, the longest first.
ROOMS = ("chaos_servers", "clocks", "acceptance", "security", "integration", "golden", "unit")
# Files with tests that take a minute and more, most of which they wait.
LONG = (
    "test_chaos.py",
    "test_run.py",
    "test_canary_and_outage.py",
    "test_whole_way.py",
    "test_afterwards.py",
    "test_programs.py",
    "test_rehearse.py",
    "test_promises.py",
    "test_waves.py",
)
# And the one whose tests take seconds, all of them of a processor's time: they fill what the others leave.
SHORT = "test_hunt.py"


# After those that leave tests out.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests to the processes that share them, so that each begins with long ones and ends with short ones that
    others can take over. A long test that is begun last would keep one process busy and the others idle. Long ones are
    dealt one by one, and others by the file."""
    hands: dict[Path | pytest.Item, list[pytest.Item]] = {}
    for item in items:
        hands.setdefault(item if item.get_closest_marker("faults") else item.path, []).append(item)
    ordered = sorted(hands.values(), key=lambda hand: _judge_length(hand[0]))
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    dealt = chain.from_iterable(ordered[first::processes] for first in range(processes))
    items[:] = chain.from_iterable(dealt)


def _judge_length(item: pytest.Item) -> tuple[int, ...]:
    """The longer a file's tests take, the smaller it is."""
    path = item.path
    index = LONG.index(path.name) if path.name in LONG else len(LONG)
    is_short = path.name == SHORT and item.get_closest_marker("faults") is not None
    return (index, is_short, *(room not in path.parts for room in ROOMS))


def pytest_collection_finish() -> None:
    """What was collected stays to the end; looking through it for garbage would take a tenth of the tests' own time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def migrate() -> Migrate:
    """Brings the empty database of a SQLAlchemy URL to the current schema, and leaves no connection open."""

    def upgrade(url: str) -> None:
        database = Database(url)
        schema.upgrade(database)
        database.close()

    return upgrade


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Quick rather than safe from power cuts; one a test process, since one is made in half a second."""
    with PostgresServer(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_databases(postgres_server: PostgresServer, migrate: Migrate) -> Iterator[EmptiedDatabases]:
    with closing(EmptiedDatabases(postgres_server, postgres_server.template("migrated", migrate))) as databases:
        yield databases


@pytest.fixture
def postgres_url(migrated_databases: EmptiedDatabases) -> Iterator[str]:
    """A migrated database without rows."""
    with migrated_databases.database() as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server with real commits, for one test to stop and kill."""
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory, migrate: Migrate) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    path.touch()
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated database in a file of its own."""
    path = tmp_path / "oathbulk.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> str:
    """A server that holds nothing yet."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server for one test to stop and kill."""
    with ValkeyServer() as server:
        yield server
