"""The databases: every test here runs on PostgreSQL and on SQLite, under the eyes of a judge of status changes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import pytest
from sqlalchemy import make_url
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet
from support.judges.status_moves import judge_moves, judge_totals, watch_moves

from models.encrypted import Keyring, generate_key
from worker.leases.worker import Leases

SERVERS = ("postgresql", "sqlite")


@pytest.fixture(params=SERVERS)
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of each kind."""
    # Asked for only now, so that a test on SQLite starts no server.
    url = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")
    assert isinstance(url, str)
    return url


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
    watch_moves(database)
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
