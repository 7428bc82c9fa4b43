"""Records what the code of a revision says to its database: `python record.py REVISION DATABASE_URL`, with the checkout
of that code, and its tests, first on the path. Do it for both databases before a migration is added, for the test that
old code goes on working beside the new schema."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event
from support.fleets.scripted_fleet import make_dispatcher

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
from worker.leases.lease import CallSummary, Leases
from worker.reports.facts import read_statuses
from worker.rules.breaker import Thresholds
from worker.rules.steps import Active, DeadLetter, Retry
from worker.simulator.shipment import make_shipment

RECORDS = 9


class Nowhere:
    """A pace without limits, and a broker that forgets."""

    rate = 100.0

    def read_hold_left(self) -> float:
        return 0.0

    def count_waiting(self) -> int:
        return 0

    def publish(self, ids: Any, environment: str, *, labels: Any = None, is_ahead: bool = False) -> None:
        return None


def main(revision: str, url: str) -> None:
    # Nothing of this machine goes into the record.
    socket.gethostname, os.getpid = lambda: "host", lambda: 1
    RowWriter._copy = insert_instead
    database = Database(url)
    schema.upgrade(database, revision)
    said = list[dict[str, Any]]()
    event.listen(database.engine, "after_cursor_execute", lambda *about: said.append(_statement(*about)))
    live(database)
    kind = "sqlite" if database.is_sqlite else "postgresql"
    database.close()
    lines = ",\n".join(json.dumps(statement) for statement in said)
    Path(__file__).resolve().with_name(f"{revision}_{kind}.json").write_text(f"[\n{lines}\n]\n")


def live(database: Database) -> None:
    """The life of a small batch: every statement of a worker, a dispatcher and a person's commands."""
    known = {"environment_id": "environment", "client_id": "id", "client_secret": "secret"}
    # Nothing is to be learnt, so that all records may go at once.
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
    work(leases)
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
def insert_instead(writer: RowWriter, names: str) -> Iterator[Any]:
    """What a COPY brings does not come by as a statement: the same rows as one that does."""
    rows: list[Any] = []
    yield rows.append
    marks = ", ".join(["%s"] * len(writer._names))
    writer._connection.exec_driver_sql(f"INSERT INTO {writer._table} ({names}) VALUES ({marks})", rows)


def work(leases: Leases) -> None:
    """Each record ends, or goes back, in a way of its own; the last is left in the queue."""
    claims = [leases.claim(number, "environment") for number in range(1, 7)]
    active, resynced, refused, unknown, spent, back = claims
    tally = CallSummary(requests=1)
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


def _statement(
    _connection: Any, cursor: Any, sql: str, parameters: Any, _context: Any, is_many: bool
) -> dict[str, Any]:
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


if __name__ == "__main__":
    main(*sys.argv[1:])
