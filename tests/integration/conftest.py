"""The databases: every test here runs on PostgreSQL and on SQLite, under the eyes of a judge of status changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
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


@pytest.fixture
def database(database_url: str) -> Iterator[MovingDatabase]:
    """The same with a clock that tests move. Whatever a test does, statuses take the arrows of TRANSITIONS only."""
    database = MovingDatabase(database_url)
    watch_moves(database)
    try:
        yield database
        judge_moves(database)
        judge_totals(database)
    finally:
        database.close()


@pytest.fixture
def leases(database: MovingDatabase) -> Leases:
    return Leases(database, lease=60.0, max_attempts=8)


@pytest.fixture
def scripted_fleet(database: MovingDatabase, leases: Leases) -> ScriptedFleet:
    return ScriptedFleet(database, leases)


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([generate_key()])
