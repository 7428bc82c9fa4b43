"""What a scrape of `oathbulk metrics` costs while a batch of 1,000,000 records runs on PostgreSQL: the time of the
first one of an exporter, which it makes before it serves and again after a minute, and of those between. And what a
page of `oathbulk desk` takes then, from the request to its whole answer.

    PYTHONPATH=.:tests python tests/benchmarks/scrape.py [--records 1000000]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

from sqlalchemy import text
from support.data.batches import ENVIRONMENT_ID, make_batch
from support.data.moving_clock import MovingDatabase
from support.servers.postgres import PostgresServer
from support.servers.web_desk import WebDesk

from worker.database import schema
from worker.desk.app import link_to
from worker.installation.installation import Installation
from worker.reports.facts import read_statuses
from worker.reports.metrics import MetricsReader

LOOKS = 5
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
        otp2_state, otp2_posts, not_found, attempts, attempts_forgiven, requests, rate_limited, resynced
    )
    SELECT :batch_id, n + 2, :environment_id, 'LARGE' || n, md5('u' || n) || 'abcd', md5('d' || n) || 'abcd', 'hotp',
        TRUE, CASE WHEN n % 10 < 6 THEN NULL ELSE decode(md5('a' || n) || md5('b' || n) || md5('c' || n), 'hex') END,
        CASE WHEN n < 32 THEN 'activating' WHEN n % 10 < 6 THEN 'active' WHEN n % 10 = 6 THEN 'dead_letter'
             ELSE 'pending' END,
        CASE WHEN n >= 32 AND n % 10 = 6 THEN (ARRAY['invalid_otp', 'locked', 'rejected'])[1 + n % 3] END,
        now(), CASE WHEN n < 32 THEN 'lease' END, CASE WHEN n < 32 THEN now() END,
        CASE WHEN n >= 32 AND n % 10 < 7 THEN now() - n * interval '1 ms' END, now(), 'unsent', 0,
        'unsent', 0, 0, 1, 0, 1, 0, FALSE
    FROM generate_series(0, :records - 1) AS numbers(n)
"""
HISTORY = """
    INSERT INTO attempt (
        record_id, batch_id, number, outcome, reason, lease_id, requests, call_milliseconds, otp_posts, ended_at
    )
    SELECT id, batch_id, 1, status, reason, 'lease', 1, id * 7919 % 900, 1, now()
    FROM record WHERE finalized_at IS NOT NULL
"""


def fill(database: MovingDatabase, records: int) -> None:
    made = make_batch(database, 0, name="large")
    with database.writing() as connection:
        values = {"batch_id": made.batch_id, "environment_id": ENVIRONMENT_ID, "records": records}
        connection.execute(text(FILL), values)
        connection.execute(text(HISTORY))
        connection.execute(text("UPDATE batch SET total = :records"), {"records": records})
    with database.engine.connect() as connection:
        # What PostgreSQL does by itself, sooner or later.
        connection.exec_driver_sql("VACUUM ANALYZE record")
        connection.exec_driver_sql("VACUUM ANALYZE attempt")


def measure(what: str, look: Callable[[], object]) -> None:
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        look()
        times.append(1000 * (time.perf_counter() - began))
    print(f"| {what} | {statistics.median(times):.0f} | {max(times):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    records = parser.parse_args().records
    with PostgresServer(durable=False) as server, server.database() as url, TemporaryDirectory() as home:
        database = MovingDatabase(url)
        schema.upgrade(database)
        fill(database, records)
        print(f"| {records:,} records | ms, median of {LOOKS} | at most |")
        print("|---|---|---|")
        statuses = partial(read_statuses, database)
        measure("first scrape", lambda: MetricsReader(database, statuses).read())
        reader = MetricsReader(database, statuses)
        reader.read()
        measure("any other within a minute", reader.read)
        desk = WebDesk(Installation({"OATHBULK_HOME": home, "OATHBULK_DATABASE_URL": url}))
        desk.enter()
        for what, path in PAGES.items():
            measure(f"desk: {what}", partial(desk.read, path))
        database.close()


if __name__ == "__main__":
    main()
