"""How the databases go about the queries of every tick while a large batch is in them: by the partial indexes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, event, text
from support.batches import ENVIRONMENT_ID, Made, make_batch
from support.moving_clock import MovingDatabase

from models.base import UtcDateTime
from models.batch import BatchState
from worker.database import Database
from worker.leases.queue import Queue

# A batch in the middle of its run: most records are done, most others wait, some are in every other condition.
RECORDS = 200_000
NUMBERS = {
    "postgresql": "SELECT n FROM generate_series(0, :records - 1) AS numbers(n)",
    "sqlite": "SELECT 0 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :records",
}
FILL = """
    WITH RECURSIVE numbers(n) AS ({numbers}), conditions AS (
        SELECT n,
            CASE WHEN n < 120000 THEN 'active' WHEN n < 125000 THEN 'dead_letter' WHEN n < 125100 THEN 'queued'
                 WHEN n < 125132 THEN 'activating' ELSE 'pending' END AS status,
            CASE WHEN n < 125000 OR n BETWEEN 126000 AND 126300 THEN 'answered' WHEN n BETWEEN 126301 AND 126500
                 THEN 'sent' ELSE 'unsent' END AS otp1_state,
            CASE WHEN n BETWEEN 127000 AND 128999 THEN :later ELSE NULL END AS otp_expires_at,
            CASE WHEN n BETWEEN 125100 AND 125131 THEN 'ffffffffffffffffffffffffffffffff' ELSE NULL END AS lease_id,
            CASE WHEN n BETWEEN 125090 AND 125110 THEN :earlier WHEN n BETWEEN 125000 AND 125131 THEN :later
                 ELSE NULL END AS lease_until,
            CASE WHEN n < 125000 THEN :earlier ELSE NULL END AS finalized_at
        FROM numbers
    )
    INSERT INTO record (
        batch_id, row_number, environment_id, serial_number, user_id, device_id, otp_type, has_second_otp, otps,
        status, scheduled_at, otp_expires_at, lease_id, lease_until, finalized_at, otp_sent_at, otp1_state, otp1_posts,
        otp2_state, otp2_posts, not_found, attempts, attempts_forgiven, requests, rate_limited, resynced
    )
    SELECT :batch_id, n + 2, :environment_id, 'LARGE' || n, 'user', 'device' || n, 'hotp', TRUE, NULL,
        status, :earlier, otp_expires_at, lease_id, lease_until, finalized_at, :earlier, otp1_state, 1,
        'unsent', 0, 0, 1, 0, 1, 0, FALSE
    FROM conditions
"""
PENDING = {"ix_record_half_done", "ix_record_expiring", "ix_record_lasting"}
KEY = "pk_record"


def fill(database: MovingDatabase) -> Made:
    """The large batch, without its ids. With it come a small one of another environment and a cancelled one."""
    large = make_batch(database, 0, name="large")
    make_batch(database, 500, name="small", environment="second", environment_id="another tenant")
    make_batch(database, 50, name="cancelled", state=BatchState.CANCELLED, otp1_state="sent", otp1_posts=1)
    now = database.read_clock()
    moments = {"earlier": now - timedelta(minutes=5), "later": now + timedelta(minutes=5)}
    statement = text(FILL.format(numbers=NUMBERS["sqlite" if database.is_sqlite else "postgresql"])).bindparams(
        *[bindparam(name, moment, UtcDateTime()) for name, moment in moments.items()],
        records=RECORDS,
        batch_id=large.batch_id,
        environment_id=ENVIRONMENT_ID,
    )
    with database.writing() as connection:
        connection.execute(statement)
    return large


@dataclass(frozen=True)
class Query:
    """A statement as it went to the driver, with parameters that it went with."""

    statement: str
    parameters: Any

    @property
    def concerns_records(self) -> bool:
        return re.search(r"^(?:SELECT|UPDATE)\b.*\brecord\b", self.statement, re.DOTALL) is not None


@contextmanager
def noting(database: Database) -> Iterator[list[Query]]:
    """The queries of the block that look for records."""
    queries: list[Query] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, _many: bool) -> None:
        queries.append(Query(statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield queries
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
        queries[:] = {query.statement: query for query in queries if query.concerns_records}.values()


def explain(connection: Connection, query: Query) -> str:
    """The plan for these parameters."""
    how = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(how + query.statement, query.parameters))


def explain_for_any(connection: Connection, query: Query) -> str:
    """PostgreSQL's plan for whatever parameters: what it may use once a statement was prepared and run several times."""
    order: list[str] = []

    def number(found: re.Match[str]) -> str:
        order.append(found[1])
        return f"${len(order)}"

    statement = re.sub(r"%\((\w+)\)s", number, query.statement)
    with connection.connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def faults(plan: str, allowed: set[str]) -> list[str]:
    """What in a plan does not go by the allowed indexes of `record`, or sorts more than a few."""
    found = re.findall(r"Seq Scan on record.*|SCAN record(?! USING).*", plan)
    used = re.findall(r"(?:using|Bitmap Index Scan on|USING (?:COVERING )?INDEX) (\w+)", plan)
    mine = [name for name in used if "record" in name]
    return found + [f"by {name}" for name in mine if name not in allowed]


Step = Callable[[Connection], object]


def steps(database: Database, large: Made) -> dict[str, tuple[Step, set[str]]]:
    """Every query of the queue, and the indexes that it may go by; `pk_record` where ids are named."""
    queue = Queue(database)
    return {
        "enqueue": (lambda c: queue.enqueue(c, large.batch_id, 5000, 60.0), PENDING | {KEY}),
        "enqueue_reads": (lambda c: queue.enqueue_reads(c, large.batch_id, 50, 60.0), {"ix_record_unsettled", KEY}),
        "in_window": (lambda c: queue.in_window(c, [ENVIRONMENT_ID]), {"ix_record_window"}),
        "settled_lately": (lambda c: queue.settled_lately(c, [large.batch_id], 10.0), {"ix_record_finalized_at"}),
        "rescue": (lambda c: queue.rescue(c), {"ix_record_window", KEY}),
        "sweep_cancelled": (lambda c: queue.sweep_cancelled(c), PENDING),
        "unqueue": (lambda c: queue.unqueue(c, [1, 2, 3]), {KEY}),
    }


def note_queries(database: Database, large: Made) -> dict[str, tuple[list[Query], set[str]]]:
    """Runs everything once, for real."""
    noted = {}
    for name, (step, allowed) in steps(database, large).items():
        with noting(database) as queries, database.writing() as connection:
            step(connection)
        noted[name] = (queries, allowed)
    return noted


def test_x(database_url: str) -> None:
    setup = MovingDatabase(database_url)
    large = fill(setup)
    database = Database(database_url)
    noted = note_queries(database, large)
    for analysed in (False, True):
        if analysed:
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("ANALYZE")
        with database.reading() as connection:
            for name, (queries, allowed) in noted.items():
                for query in queries:
                    plan = explain(connection, query)
                    print("=====", analysed, name, faults(plan, allowed))
                    print(query.statement[:400])
                    print(plan)
                    if not database.is_sqlite:
                        plan = explain_for_any(connection, query)
                        print("== generic", faults(plan, allowed))
                        print(plan)
    database.close()
    setup.close()
    assert 0
