"""The databases: every test here runs on PostgreSQL and on SQLite, under the eyes of a judge of status changes. And a
simulator that listens."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, partial
from pathlib import Path

import pytest
from sqlalchemy import make_url
from support.data.loading import LoadingDesk
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import PingOne
from support.fleets.scripted_fleet import ScriptedFleet
from support.judges.status_moves import judge_moves, judge_totals, watch_moves
from support.servers.postgres import EmptiedDatabases, PostgresServer
from support.simulator.call_log import CallLog
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from models.encrypted import Keyring, generate_key
from worker.database.engine import Database
from worker.leases.lease import Leases


@pytest.fixture(scope="session")
def migrate_and_watch(migrate: Callable[[str], None]) -> Callable[[str], None]:
    """Brings the empty database of a URL to the current schema, under the judge's eyes."""

    def make(url: str) -> None:
        migrate(url)
        with closing(Database(url)) as database:
            watch_moves(database)

    return make


@pytest.fixture(scope="session")
def watched_databases(
    postgres_server: PostgresServer, migrate_and_watch: Callable[[str], None]
) -> Iterator[EmptiedDatabases]:
    with closing(
        EmptiedDatabases(postgres_server, postgres_server.template("watched", migrate_and_watch))
    ) as databases:
        yield databases


@pytest.fixture(scope="session")
def watched_file(tmp_path_factory: pytest.TempPathFactory, migrate_and_watch: Callable[[str], None]) -> Path:
    path = tmp_path_factory.mktemp("watched") / "template.db"
    path.touch()
    migrate_and_watch(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of each kind, without rows."""
    # What it comes of is asked for only now, so that a test on SQLite starts no server.
    if request.param == "postgresql":
        with request.getfixturevalue("watched_databases").database() as url:
            yield url
    else:
        path = tmp_path / "oathbulk.db"
        shutil.copyfile(request.getfixturevalue("watched_file"), path)
        yield f"sqlite:///{path}"


# One of each kind in this process, and the leases with it, since building their statements takes longer than many a
# test.
_DATABASES: dict[str, MovingDatabase] = {}
_make_leases = cache(partial(Leases, lease=60.0, max_attempts=8))


@pytest.fixture
def database(database_url: str) -> Iterator[MovingDatabase]:
    """The same with a clock that tests move. Whatever a test does, statuses take the arrows of TRANSITIONS only."""
    kind = make_url(database_url).get_backend_name()
    if database := _DATABASES.get(kind):
        database.reopen(database_url)
    else:
        database = _DATABASES[kind] = MovingDatabase(database_url)
    try:
        yield database
        judge_moves(database)
        judge_totals(database)
    finally:
        database.close()


@pytest.fixture
def leases(database: MovingDatabase) -> Leases:
    return _make_leases(database)


@pytest.fixture
def scripted_fleet(database: MovingDatabase, leases: Leases) -> ScriptedFleet:
    return ScriptedFleet(database, leases)


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([generate_key()])


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, leases: Leases, tmp_path: Path) -> LoadingDesk:
    """Where shipments are loaded. Modules about something else have a desk of their own."""
    return LoadingDesk(database, keyring, tmp_path, leases)


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[WatchedSimulation, str]]:
    """A simulation for the tests of a module, and its URL."""
    simulation = WatchedSimulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url:
        yield simulation, url


@pytest.fixture
def pingone(listening: tuple[WatchedSimulation, str]) -> PingOne:
    """The same as it is in the beginning, without devices and tokens."""
    return PingOne(*listening)
