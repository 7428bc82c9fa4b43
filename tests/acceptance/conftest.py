"""Fleets of real processes, on PostgreSQL or as a single-machine installation."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.data.tokens import Token, write_shipment
from support.fleets.real_fleet import Fleet, plain_env
from support.processes.command_desk import NOWHERE, CommandDesk
from support.servers.postgres import PostgresServer
from support.servers.simulator import Simulator
from support.servers.stand_in import StandIn

from worker.simulator.shipment import MadeShipment

# Records of an unknown environment do not wait for its first ones, unless a test is about that.
ALL_AT_ONCE = {"_OATHBULK_TUNING__first_records": "0"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def sqlite_home(home: Path, sqlite_template: Path) -> Path:
    """A home with a fresh, migrated database in it."""
    shutil.copyfile(sqlite_template, home / "oathbulk.db")
    return home


@pytest.fixture(params=["postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """A fresh, migrated database of each kind; None is the one in the home."""
    # Asked for only now, so that a test on SQLite starts no server.
    if request.param == "sqlite":
        request.getfixturevalue("sqlite_home")
        return None
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def own_migrated_postgres(migrate: Callable[[str], None]) -> Iterator[tuple[str, PostgresServer]]:
    """A database and its server, which a test may stop and kill. It survives kill -9, which takes no power away,
    without the slowness of real commits."""
    with PostgresServer(durable=False) as server, server.database() as url:
        migrate(url)
        yield url, server


@pytest.fixture
def make_fleet(tmp_path: Path, home: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets that end with the test."""
    with ExitStack() as stack:

        def make(database_url: str | None, redis_url: str, *arguments: Any, **named: Any) -> Fleet:
            return stack.enter_context(Fleet(tmp_path, home, database_url, redis_url, *arguments, **named))

        yield make


@pytest.fixture
def set_up(tmp_path: Path) -> Iterator[Callable[..., tuple[CommandDesk, StandIn]]]:
    """Makes a desk to type commands at, and a stand-in for PingOne beside it: the tokens are those of PingOne and of
    `shipment.csv`; then come settings."""
    with ExitStack() as stack:

        def make(tokens: list[Token], **settings: str) -> tuple[CommandDesk, StandIn]:
            pingone = stack.enter_context(StandIn(tokens))
            desk = stack.enter_context(CommandDesk(tmp_path / "desk", pingone.settings, ALL_AT_ONCE | settings))
            write_shipment(desk.folder / "shipment.csv", tokens)
            return desk, pingone

        yield make


@pytest.fixture
def set_out(tmp_path: Path) -> Iterator[Callable[..., tuple[CommandDesk, Simulator]]]:
    """The same beside the simulator: what it can do, it says by its control API. `simulated` are its settings."""
    with ExitStack() as stack:

        def make(
            shipment: MadeShipment, settings: Mapping[str, str] | None = None, **simulated: Any
        ) -> tuple[CommandDesk, Simulator]:
            outside = tmp_path / "outside"
            outside.mkdir()
            simulator = stack.enter_context(Simulator(outside, shipment, plain_env(), **simulated))
            desk = stack.enter_context(
                CommandDesk(tmp_path / "desk", simulator.variables, ALL_AT_ONCE | (settings or {}))
            )
            shipment.write_pairs(desk.folder / "shipment.csv")
            return desk, simulator

        yield make


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CommandDesk]:
    """A desk alone."""
    with CommandDesk(tmp_path / "desk", NOWHERE) as desk:
        yield desk
