"""Seconds from a kill -9 of a busy worker until a second worker has every orphaned record in work again, on PostgreSQL.

    python tests/benchmarks/recovery.py [--lease SECONDS …] [--rounds N] [--records N]

The settings are those of production, but for the lease if one is given. Of two workers with 32 threads each, one is
killed while all of its threads wait for PingOne, which takes some seconds for each answer. Orphans are the records that
it had: in a call, or waiting in its memory for a thread. All moments are of the database's clock. A record whose OTP
was on its way may be read only when the call is over for certain, which can be later than the end of its lease: *due*
is the later of the two.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import func, select, text
from support.fleets.real_fleet import PRODUCTION, Fleet
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

from models.attempt import AttemptLine, Outcome
from models.record import Record
from models.record_states import Status
from worker.config.tuning import Tuning
from worker.database import schema
from worker.database.engine import Database
from worker.simulator.shipment import make_shipment

# Seconds that PingOne takes for an answer, and up to so many more: long enough for 64 threads to be in a call.
LATENCY, JITTER = 3.0, 3.0
THREADS = "32"
# Slots a second; so many that no thread waits for one.
RATE = "200"
# Seconds for a worker to be full, and for the last record to come back.
TIMEOUT = 240.0

# The database itself notes when a record is claimed: once it is settled, that is not to be seen any more.
_WATCH = (
    "CREATE TABLE claimed (record_id BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL)",
    """CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO claimed VALUES (new.id, clock_timestamp()); RETURN NULL; END $$""",
    """CREATE TRIGGER note_claim AFTER UPDATE ON record FOR EACH ROW
       WHEN (old.status = 'queued' AND new.status = 'activating') EXECUTE FUNCTION note_claim()""",
)


@dataclass(frozen=True)
class Orphan:
    """A record that the victim had. Seconds from the kill until it was due, and until it was in work again."""

    due: float
    back: float


def run_round(records: int, lease: float) -> list[Orphan]:
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="oathbulk-bench-")))
        valkey = exits.enter_context(ValkeyServer())
        postgres = exits.enter_context(PostgresServer(durable=True))
        url = exits.enter_context(postgres.database())
        migrate(url)
        settings = PRODUCTION | {
            "_OATHBULK_TUNING__lease": f"{lease:g}",
            "OATHBULK_CONCURRENCY": THREADS,
            "PINGONE_RATE": RATE,
            "PINGONE_RATE_MAX": RATE,
        }
        shipment = make_shipment(records, out_of_step=0.5)
        fleet = exits.enter_context(
            Fleet(
                directory,
                directory / "home",
                url,
                valkey.url,
                shipment,
                settings=settings,
                latency=LATENCY,
                jitter=JITTER,
            )
        )
        return kill_and_follow(fleet)


def migrate(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    with database.writing() as connection:
        for statement in _WATCH:
            connection.exec_driver_sql(statement)
    database.close()


def kill_and_follow(fleet: Fleet) -> list[Orphan]:
    victim, _ = fleet.worker("victim"), fleet.worker("second")
    threads = fleet.settings.concurrency
    fleet.beat()
    wait_until(lambda: fleet.simulator.open_calls() >= 2 * threads - 2, TIMEOUT, "every thread is in a call")
    # Some devices have been asked for their second OTP by now.
    time.sleep(LATENCY + JITTER)
    wait_until(lambda: fleet.simulator.open_calls() >= 2 * threads - 2, TIMEOUT, "every thread is in a call")
    killed_at = now(fleet)
    victim.kill()
    left = in_window(fleet)
    fleet.wait_until(lambda: not fleet.status().left, "the second worker finishes the batch", TIMEOUT)
    orphans = list(find_orphans(fleet, killed_at, left))
    fleet.judge()
    return orphans


def now(fleet: Fleet) -> datetime:
    with fleet.database.reading() as connection:
        moment = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(moment, datetime)
    return moment


def in_window(fleet: Fleet) -> Sequence[Any]:
    """What is queued or in work, the second worker's records among them, and when each can go on if its worker died."""
    may_be_read_at = fleet.database.later(Record.otp_sent_at, fleet.settings.tuning.over_after)
    due_at = func.greatest(Record.lease_until, may_be_read_at).label("due_at")
    statement = select(Record.id, Record.status, due_at)
    with fleet.database.reading() as connection:
        return connection.execute(statement.where(Record.status.in_([Status.QUEUED, Status.ACTIVATING]))).all()


def find_orphans(fleet: Fleet, killed_at: datetime, left: Sequence[Any]) -> Iterator[Orphan]:
    """Those in work that were rescued, and those in the queue that were claimed only after their lease had run out."""
    with fleet.database.reading() as connection:
        lost = set(connection.scalars(select(AttemptLine.record_id).where(AttemptLine.outcome == Outcome.LOST)))
        claims = connection.execute(text("SELECT record_id, at FROM claimed ORDER BY at")).all()
    for record in left:
        later = [claim.at for claim in claims if claim.record_id == record.id and claim.at > killed_at]
        is_orphan = later and (later[0] > record.due_at if record.status == Status.QUEUED else record.id in lost)
        if is_orphan:
            yield Orphan(*((moment - killed_at).total_seconds() for moment in (record.due_at, later[0])))


def show(orphans: Sequence[Orphan], lease: float) -> None:
    back = [orphan.back for orphan in orphans]
    late = max(orphan.back - orphan.due for orphan in orphans)
    figures = (max(orphan.due for orphan in orphans), statistics.median(back), max(back), late)
    print(f"\n| lease {lease:g} s | last due | in work: median | worst | worst delay |\n|---|---|---|---|---|")
    print(f"| {len(orphans)} orphans | " + " | ".join(f"{seconds:.1f} s" for seconds in figures) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--lease", type=float, nargs="+", default=[Tuning().lease])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--records", type=int, default=300)
    arguments = parser.parse_args()
    for lease in arguments.lease:
        show([orphan for _ in range(arguments.rounds) for orphan in run_round(arguments.records, lease)], lease)


if __name__ == "__main__":
    main()
