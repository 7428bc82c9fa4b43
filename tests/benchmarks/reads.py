"""What a large batch costs: a scrape of `oathbulk metrics`, the pages of `oathbulk desk`, `status --by site`, a tick of
the dispatcher, and commands on all of its records. The time of each, from the request to its whole answer.

    PYTHONPATH=.:tests python tests/benchmarks/reads.py [--records 1000000] [--dated 50000]

The first batch runs on PostgreSQL; the first scrape is that which an exporter makes before it serves, and again after a
minute. Then all of its records fail, and are exported, replayed and cancelled, once each. The second is in forty sites,
on both databases, and a part of its records waits for a date: a tick where none has one, where half of them do, and
where a person keeps back all but a few, in turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text, update
from support.data.batches import ENVIRONMENT_ID, make_batch
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet
from support.servers.postgres import PostgresServer
from support.servers.web_desk import WebDesk

from models.batch import Batch
from models.record import Record
from models.record_states import UNTIL_LET_GO
from worker.database import schema
from worker.desk.app import link_to
from worker.installation.installation import Installation
from worker.leases.lease import Leases
from worker.reports.facts import read_parts, read_statuses
from worker.reports.metrics import MetricsCollector

LOOKS, TICKS = 5, 40
SITES = 40
# Of the records, what a person keeps back.
PARTS = (0.0, 0.5, 0.98)
# Of the batch that `fill` makes: a token that is active, and one that was given up.
PAGES = {
    "shipments": "/",
    "the batch": link_to("/batch", name="large"),
    "a token": link_to("/token", of="LARGE1001"),
    "a search for a serial number": link_to("/search", text="LARGE1006"),
    "a search for its beginning": link_to("/search", text="LARGE5"),
    "dead letters of a reason": link_to("/search", batch="large", status="dead_letter", reason="locked"),
    "audit": "/audit",
    "the form of a replay": link_to("/batch/replay", name="large"),
}
# Of ten records six are active, one is a dead letter, three wait; a few are in work.
FILL = """
    INSERT INTO record (
        batch_id, row_number, environment_id, serial_number, user_id, device_id, otp_type, has_second_otp, otps,
        status, reason, scheduled_at, lease_id, lease_until, finalized_at, otp_sent_at, otp1_state, otp1_posts,
        otp2_state, otp2_posts, not_found, attempts, attempts_forgiven, requests, rate_limited, resynced,
        is_in_inventory, is_token_made, is_device_made, posts_forgiven, pairing, pairings
    )
    SELECT :batch_id, n + 2, :environment_id, 'LARGE' || n, md5('u' || n) || 'abcd', md5('d' || n) || 'abcd', 'hotp',
        TRUE, CASE WHEN n % 10 < 6 THEN NULL ELSE decode(md5('a' || n) || md5('b' || n) || md5('c' || n), 'hex') END,
        CASE WHEN n < 32 THEN 'activating' WHEN n % 10 < 6 THEN 'active' WHEN n % 10 = 6 THEN 'dead_letter'
             ELSE 'pending' END,
        CASE WHEN n >= 32 AND n % 10 = 6 THEN (ARRAY['invalid_otp', 'locked', 'rejected'])[1 + n % 3] END,
        now(), CASE WHEN n < 32 THEN 'lease' END, CASE WHEN n < 32 THEN now() END,
        CASE WHEN n >= 32 AND n % 10 < 7 THEN now() - n * interval '1 ms' END, now(), 'unsent', 0,
        'unsent', 0, 0, 1, 0, 1, 0, FALSE, TRUE, FALSE, FALSE, 0, 'unsent', 0
    FROM generate_series(0, :records - 1) AS numbers(n)
"""
HISTORY = """
    INSERT INTO attempt (
        record_id, batch_id, number, outcome, reason, lease_id, requests, call_milliseconds, otp_posts, ended_at
    )
    SELECT id, batch_id, 1, status, reason, 'lease', 1, id * 7919 % 900, 1, now()
    FROM record WHERE finalized_at IS NOT NULL
"""

GIVE_UP = """
    UPDATE record SET status = 'dead_letter', reason = 'locked', lease_id = NULL, lease_until = NULL,
        finalized_at = now(), otps = decode(md5('a' || id) || md5('b' || id) || md5('c' || id), 'hex')
"""
COMMANDS = {
    "export --failed": ("export", "large", "--failed", "-o", "failed.csv"),
    "replay": ("replay", "large"),
    "cancel": ("cancel", "large"),
}


def fill(database: MovingDatabase, records: int) -> None:
    schema.upgrade(database)
    made = make_batch(database, 0, name="large")
    with database.writing() as connection:
        values = {"batch_id": made.batch_id, "environment_id": ENVIRONMENT_ID, "records": records}
        connection.execute(text(FILL), values)
        connection.execute(text(HISTORY))
        connection.execute(text("UPDATE batch SET total = :records"), {"records": records})
    tend(database, "record", "attempt")


def make_dated(url: str, records: int, part: float) -> MovingDatabase:
    """A batch of which this part has a date that does not come; the others have none."""
    database = MovingDatabase(url)
    schema.upgrade(database)
    make_batch(database, [{"extra": {"site": f"Site {n % SITES}"}} for n in range(records)], name="large")
    # The last rows of the file, so that those that go stand as close together as without dates.
    dated = Record.id > records * (1 - part)
    with database.writing() as connection:
        connection.execute(update(Batch).values(columns=["serial", "site"]))
        connection.execute(update(Record).where(dated).values(not_before=UNTIL_LET_GO, scheduled_at=UNTIL_LET_GO))
    tend(database, "record")
    return database


def tend(database: MovingDatabase, *tables: str) -> None:
    """What PostgreSQL does by itself, sooner or later."""
    with database.engine.connect() as connection:
        for table in tables:
            connection.exec_driver_sql(f"ANALYZE {table}" if database.is_sqlite else f"VACUUM ANALYZE {table}")


def measure(what: str, look: Callable[[], object]) -> None:
    show(what, [take_time(look) for _ in range(LOOKS)])


def take_time(look: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    look()
    return 1000 * (time.perf_counter() - began)


def show(what: str, times: Sequence[float]) -> None:
    print(f"| {what} | {statistics.median(times):.1f} | {max(times):.0f} |", flush=True)


def enter(url: str, home: str) -> WebDesk:
    desk = WebDesk(Installation({"OATHBULK_HOME": home, "OATHBULK_DATABASE_URL": url}))
    desk.enter()
    return desk


def measure_running(url: str, records: int, home: str) -> None:
    with closing(MovingDatabase(url)) as database:
        fill(database, records)
        statuses = partial(read_statuses, database)
        measure("first scrape", lambda: list(MetricsCollector(database, statuses).collect()))
        collector = MetricsCollector(database, statuses)
        list(collector.collect())
        measure("any other within a minute", lambda: list(collector.collect()))
        desk = enter(url, home)
        for what, path in PAGES.items():
            measure(f"desk: {what}", partial(desk.read, path))


def measure_commands(url: str, home: str) -> None:
    with closing(MovingDatabase(url)) as database:
        with database.writing() as connection:
            connection.execute(text(GIVE_UP))
        tend(database, "record")
    env = {**os.environ, "OATHBULK_HOME": home, "OATHBULK_DATABASE_URL": url}
    for name, command in COMMANDS.items():
        run = partial(subprocess.run, [sys.executable, "-m", "worker", *command], env=env, cwd=home, check=True)
        before = os.times().children_user
        taken = take_time(partial(run, capture_output=True))
        used = 1000 * (os.times().children_user - before)
        print(f"| {name}, once; the command's own processor time | {taken:.0f} | {used:.0f} |", flush=True)


def measure_dated(kind: str, urls: Sequence[str], records: int, home: str) -> None:
    made = [make_dated(url, records, part) for url, part in zip(urls, PARTS, strict=True)]
    measure(f"{kind}: `status --by site`, once it has started", lambda: read_parts(made[0], "large", "site"))
    page = link_to("/batch", name="large", by="site")
    measure(f"{kind}: the desk's page by site", partial(enter(urls[0], home).read, page))
    fleets = [ScriptedFleet(database, Leases(database)) for database in made]
    ticks: list[list[float]] = [[] for _ in PARTS]
    for _ in range(TICKS):
        for fleet, taken in zip(fleets, ticks, strict=True):
            taken.append(take_time(fleet.tick))
            fleet.batches.hand_back()
    for part, taken in zip(PARTS, ticks, strict=True):
        show(f"{kind}: a tick, {part:.0%} of the records kept back", taken)
    for database in made:
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--dated", type=int, default=50_000)
    arguments = parser.parse_args()
    print(f"| {arguments.records:,} records; {arguments.dated:,} in {SITES} sites | ms, median | at most |")
    print("|---|---|---|")
    with PostgresServer(durable=False) as server, TemporaryDirectory() as folder, ExitStack() as stack:
        urls = [stack.enter_context(server.database()) for _ in range(1 + len(PARTS))]
        measure_running(urls[0], arguments.records, folder)
        measure_commands(urls[0], folder)
        measure_dated("PostgreSQL", urls[1:], arguments.dated, folder)
        measure_dated("SQLite", [f"sqlite:///{Path(folder, f'{part}.db')}" for part in PARTS], arguments.dated, folder)


if __name__ == "__main__":
    main()
