"""Expand, then contract: while the schema is brought up to date, workers of the version before go on working on it.

What they say to the database was recorded with their own code (tests/samples/old_code): a small batch, from its load to
a person's commands. That shows that each statement still does what it did. It does not show the old programs
themselves, nor what statements of both versions do to each other at one moment."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Json
from sqlalchemy import select
from support.data.batches import Made, enqueue
from support.data.moving_clock import MovingDatabase
from support.servers.postgres import PostgresServer

from migrations import HEAD
from models.attempt import AttemptLine
from models.record import Record
from worker.database import schema
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.reports.facts import read_statuses
from worker.rules.progress import Active

SAMPLES = Path(__file__).parents[1] / "samples" / "old_code"
VERSIONS = Path(schema.__file__).parents[2] / "migrations" / "versions"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013")

MakeDatabase = Callable[[], MovingDatabase]


# A fleet is seldom upgraded from further back; the long tests do that.
LATEST = REVISIONS[-3:]


@pytest.fixture(params=[pytest.param(each, marks=[] if each in LATEST else pytest.mark.faults) for each in REVISIONS])
def before(request: pytest.FixtureRequest) -> str:
    """The revision of the old code."""
    revision: str = request.param
    return revision


@pytest.fixture(params=["postgresql", "sqlite"])
def make_old(request: pytest.FixtureRequest, tmp_path: Path, before: str) -> Iterator[MakeDatabase]:
    """Makes databases with the schema of the version before."""
    made: list[MovingDatabase] = []

    def make(url: str) -> MovingDatabase:
        database = MovingDatabase(url)
        schema.upgrade(database, before)
        made.append(database)
        return database

    if request.param == "sqlite":
        yield lambda: make(f"sqlite:///{tmp_path / f'{len(made)}.db'}")
        for database in made:
            database.close()
        return
    server = request.getfixturevalue("postgres_server")
    assert isinstance(server, PostgresServer)
    with server.database() as first, server.database() as second:
        urls = iter([first, second])
        yield lambda: make(next(urls))
        for database in made:
            database.close()


def recorded(database: MovingDatabase, revision: str) -> list[dict[str, Any]]:
    kind = "sqlite" if database.is_sqlite else "postgresql"
    said = json.loads((SAMPLES / f"{revision}_{kind}.json").read_text())
    return [statement for statement in said if not statement["sql"].startswith("BEGIN")]


def say(database: MovingDatabase, statements: list[dict[str, Any]]) -> None:
    """Each must touch as many rows as it did for those who said it first."""
    for statement in statements:
        parameters = _revived(statement["parameters"])
        if isinstance(parameters, list):
            by_place = [tuple(each) if isinstance(each, list) else each for each in parameters]
            parameters = by_place if statement["many"] else tuple(by_place)
        with database.writing() as connection:
            found = connection.exec_driver_sql(statement["sql"], parameters or None)
            rows = len(found.all()) if found.returns_rows else found.rowcount
            # SQLite counts none before it has fetched them, and recorded none.
            if statement["rows"] > 0 or not database.is_sqlite:
                assert rows == statement["rows"], statement["sql"]


def _revived(value: Any) -> Any:
    match value:
        case {"bytes": content}:
            return bytes.fromhex(content)
        case {"time": moment}:
            return datetime.fromisoformat(moment)
        case {"json": content}:
            return Json(content)
        case dict():
            return {name: _revived(inner) for name, inner in value.items()}
        case list():
            return [_revived(inner) for inner in value]
    return value


def state(database: MovingDatabase) -> list[Any]:
    """How every record stands, and its history."""
    columns = (Record.status, Record.reason, Record.attempts, Record.otp1_state, Record.otp1_posts, Record.otp2_posts)
    lines = (AttemptLine.record_id, AttemptLine.number, AttemptLine.outcome, AttemptLine.reason)
    with database.reading() as connection:
        records = connection.execute(select(*columns).order_by(Record.id)).all()
        return [*records, *connection.execute(select(*lines).order_by(AttemptLine.id)).all()]


@pytest.mark.parametrize("is_half_worked", [False, True], ids=["empty", "half worked"])
def test_old_workers_go_on_beside_the_new_schema_and_new_ones_finish(
    make_old: MakeDatabase, before: str, is_half_worked: bool
) -> None:
    control, database = make_old(), make_old()
    said = recorded(database, before)
    say(control, said)
    # Some records are in old workers' hands, others in the queue.
    half = next(number for number, one in enumerate(said) if one["sql"].startswith("INSERT INTO attempt"))
    upgraded_at = half if is_half_worked else 0

    say(database, said[:upgraded_at])
    assert schema.upgrade(database) == HEAD
    say(database, said[upgraded_at:])

    assert state(database) == state(control)
    assert {row.status for row in state(control) if hasattr(row, "status")} == {"active", "dead_letter", "pending"}
    finish(database)
    (status,) = read_statuses(database, "shipment")
    assert (status.state, status.left, status.total) == ("finished", 0, sum(status.counts.values()))


def finish(database: MovingDatabase) -> None:
    """What the new version's workers do with what is left."""
    with database.reading() as connection:
        ids = list(connection.scalars(select(Record.id).order_by(Record.id)))
    database.ahead = 1000.0
    leases = Leases(database)
    left = enqueue(database, Made(1, "shipment", ids))
    assert left
    for record_id in left:
        claim = leases.claim(record_id, "environment")
        assert claim is not None
        assert leases.settle(
            claim,
            claim.progress.with_device_waiting().with_otp_sent(1).with_otp_answered(1),
            Active(),
            CallSummary(requests=1),
        )


def test_each_revision_has_the_record_of_the_code_before_it() -> None:
    """The next migration needs one too: tests/samples/old_code/record.py makes it."""
    known = {path.name.partition("_")[0] for path in SAMPLES.glob("*.json")}
    revisions = {
        path.name.partition("_")[0] for path in (Path(schema.__file__).parents[2] / "migrations/versions").glob("0*.py")
    }
    assert known == revisions - {HEAD}


def test_this_version_can_be_recorded_for_the_migration_that_follows(database: MovingDatabase) -> None:
    spec = importlib.util.spec_from_file_location("record", SAMPLES / "record.py")
    assert spec is not None
    assert spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)

    record.live(database)

    (status,) = read_statuses(database, "shipment")
    assert (status.total, status.counts["active"], status.counts["dead_letter"]) == (9, 2, 1)
