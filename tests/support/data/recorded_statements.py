"""What workers and people of one version say to the database, as statements that can be said again to a later schema:
old workers go on beside it.

    PYTHONPATH=.:tests .venv/bin/python -m support.data.recorded_statements

writes what this version says, on both databases, into tests/samples/old_workers: before a migration is added."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from psycopg.types.json import Json
from sqlalchemy import event
from support.data.calls import called
from support.fleets.scripted_fleet import make_dispatcher
from support.servers.postgres import PostgresServer

from migrations import HEAD
from models.encrypted import Keyring, generate_key
from models.reason import PauseReason, Reason
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.batches.loading import Loader
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database import schema
from worker.database.engine import Database
from worker.database.row_writer import RowWriter
from worker.intake.shipment import open_shipment
from worker.leases.lease import Leases
from worker.reports.facts import read_statuses
from worker.rules.breaker import Thresholds
from worker.rules.steps import Active, DeadLetter, Retry
from worker.simulator.shipment import make_shipment

# A statement, its parameters, whether it was executed for many rows, and how many rows it touched.
Statement = dict[str, Any]

SAMPLES = Path(__file__).parents[2] / "samples" / "old_workers"
RECORDS = 9


class Nowhere:
    """A pace without limits, and a broker that forgets."""

    rate = 100.0

    def read_hold_left(self) -> float:
        return 0.0

    def is_new(self) -> bool:
        return False

    def count_waiting(self) -> int:
        return 0

    def publish(self, ids: Any, environment: str, *, labels: Any = None, is_ahead: bool = False) -> None:
        return None


def record(database: Database) -> list[Statement]:
    """Live the life of a small batch on this database, and return what was said to it."""
    statements = list[Statement]()
    event.listen(database.engine, "after_cursor_execute", lambda *about: statements.append(_describe(*about)))
    # Nothing of this machine goes into the record.
    with (
        patch.object(socket, "gethostname", lambda: "host"),
        patch.object(os, "getpid", lambda: 1),
        patch.object(RowWriter, "_copy", _insert_instead),
    ):
        live(database)
    return [statement for statement in statements if not statement["sql"].startswith("BEGIN")]


def say(database: Database, statements: list[Statement]) -> None:
    """Say them again. Each must touch as many rows as it did for those who said it first."""
    is_sqlite = database.is_sqlite
    for statement in statements:
        parameters = _revive(statement["parameters"])
        if isinstance(parameters, list):
            by_place = [tuple(each) if isinstance(each, list) else each for each in parameters]
            parameters = by_place if statement["many"] else tuple(by_place)
        with database.writing() as connection:
            found = connection.exec_driver_sql(statement["sql"], parameters or None)
            rows = len(found.all()) if found.returns_rows else found.rowcount
            # SQLite counts none before it has fetched them, and recorded none.
            if statement["rows"] > 0 or not is_sqlite:
                assert rows == statement["rows"], statement["sql"]


def live(database: Database) -> None:
    """The life of a small batch: every statement of a worker, a dispatcher and a person's commands."""
    known = {"environment_id": "environment", "client_id": "id", "client_secret": "secret"}
    # Nothing is to be learned, so that all records may go at once.
    environment = Environment(name="default", resync_on_first_call=False, **known)
    actor = Actor("a person")
    batches, leases = Batches(database, actor), Leases(database, lease=60)
    upkeep, nowhere = Upkeep(database, Thresholds(unanswered=2)), Nowhere()
    dispatcher = make_dispatcher(
        database,
        nowhere,
        Settings(),
        environment=lambda _: environment,
        pace=lambda _: nowhere,
        upkeep=upkeep,
    )
    # A relative path, so that nothing of this machine goes into the record.
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        file = Path("shipment.csv")
        make_shipment(RECORDS).write_pairs(file)
        Loader(database, Keyring([generate_key()]), environment, actor).load(open_shipment(file), "shipment")
    dispatcher.tick()
    _work(leases)
    lost = Leases(database, lease=-1)
    assert lost.claim(8, "environment")
    dispatcher.tick()
    read_statuses(database)
    batches.pause("shipment")
    batches.resume("shipment")
    batches.replay("shipment")
    batches.replay_transient()
    upkeep.apply_breaker(1)
    upkeep.pause(1, PauseReason.CREDENTIALS)
    batches.resume("shipment")
    dispatcher.tick()
    batches.pause("shipment")
    batches.hand_back()
    batches.resume("shipment")


@contextmanager
def _insert_instead(writer: RowWriter, names: str) -> Iterator[Any]:
    """What a COPY brings does not come by as a statement: the same rows as one that does."""
    rows: list[Any] = []
    yield rows.append
    marks = ", ".join(["%s"] * len(writer._names))
    writer._connection.exec_driver_sql(f"INSERT INTO {writer._table} ({names}) VALUES ({marks})", rows)


def _work(leases: Leases) -> None:
    """Each record ends, or goes back, in a way of its own; the last is left in the queue."""
    claims = [leases.claim(number, "environment") for number in range(1, 7)]
    active, resynced, refused, unknown, spent, back = claims
    tally = called(requests=1)
    leases.settle(active, active.progress.with_otp_answered(1), Active(), tally)
    answered = resynced.progress.with_otp_answered(1)
    leases.write_progress(resynced, answered)
    leases.may_read(resynced)
    leases.renew_mark(resynced)
    leases.mark_sent(resynced, 2)
    leases.settle(resynced, answered.with_otp_sent(2).with_otp_answered(2), Active(), tally)
    leases.settle(refused, refused.progress.with_otp_answered(1), DeadLetter(Reason.INVALID_OTP), tally)
    leases.settle(unknown, unknown.progress, Retry(0.0, is_counted=True, why="outcome_unknown"), tally)
    leases.settle(spent, spent.progress.with_device_waiting(), DeadLetter(Reason.ATTEMPTS_SPENT), tally)
    leases.settle(back, back.progress.with_otp_unsent(1), Retry(0.0, is_counted=False, why="hold"), tally)
    leases.hand_back(7, 0.0)
    leases.hand_back_stopped(9)


def _describe(_connection: Any, cursor: Any, sql: str, parameters: Any, _context: Any, is_many: bool) -> Statement:
    rows = -1
    with suppress(Exception):
        rows = cursor.rowcount
    return {"sql": sql, "parameters": _plain(parameters), "many": is_many, "rows": rows}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    # psycopg wraps bytes and JSON.
    if isinstance(obj := getattr(value, "obj", None), bytes):
        return _plain(obj)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    return value if value is None or isinstance(value, str | int | float) else {"json": obj}


def _revive(value: Any) -> Any:
    """Turn what `_plain` made back into what the driver takes."""
    match value:
        case {"bytes": content}:
            return bytes.fromhex(content)
        case {"time": moment}:
            return datetime.fromisoformat(moment)
        case {"json": content}:
            return Json(content)
        case dict():
            return {name: _revive(inner) for name, inner in value.items()}
        case list():
            return [_revive(inner) for inner in value]
    return value


def write_samples() -> None:
    """Write what this version says to each kind of database."""
    SAMPLES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=False) as server, server.database() as url:
        for kind, each in (("sqlite", f"sqlite:///{folder}/old.db"), ("postgresql", url)):
            with closing(Database(each)) as database:
                schema.upgrade(database)
                lines = ",\n".join(map(json.dumps, record(database)))
            (SAMPLES / f"{HEAD}_{kind}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write_samples()
