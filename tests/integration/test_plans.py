"""How the databases go about the queries of every tick while a large batch is in them: by the partial indexes."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, bindparam, event, text
from support.data.batches import ENVIRONMENT_ID, Made, make_batch, make_environment
from support.data.calls import called
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import PublishedIds, make_dispatcher

from models.base import UtcDateTime
from models.encrypted import Keyring, generate_key
from worker.batches.imports import Tokens
from worker.batches.long_list import Turn, Turns
from worker.batches.people import People
from worker.batches.preparation import Preparation
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.database.engine import Database
from worker.leases.lease import Leases
from worker.leases.queue import Queue
from worker.pingone.inventory import InventoryToken
from worker.rules.breaker import Thresholds
from worker.rules.steps import Active

# A batch in the middle of its run: most records are done, most others wait, some are in every other condition.
RECORDS = 50_000
NUMBERS = {
    "postgresql": "SELECT n FROM generate_series(0, :records - 1) AS numbers(n)",
    "sqlite": "SELECT 0 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :records",
}
FILL = """
    WITH RECURSIVE numbers(n) AS ({numbers}), conditions AS (
        SELECT n,
            CASE WHEN n < 30000 THEN 'active' WHEN n < 31250 THEN 'dead_letter' WHEN n < 31350 THEN 'queued'
                 WHEN n < 31382 THEN 'activating' ELSE 'pending' END AS status,
            CASE WHEN n < 31250 OR n BETWEEN 31500 AND 31800 THEN 'answered' WHEN n BETWEEN 31801 AND 32000
                 THEN 'sent' ELSE 'unsent' END AS otp1_state,
            CASE WHEN n BETWEEN 32200 AND 34199 THEN :later ELSE NULL END AS otp_expires_at,
            CASE WHEN n BETWEEN 31350 AND 31381 THEN 'ffffffffffffffffffffffffffffffff' ELSE NULL END AS lease_id,
            CASE WHEN n BETWEEN 31340 AND 31360 THEN :earlier WHEN n BETWEEN 31250 AND 31381 THEN :later
                 ELSE NULL END AS lease_until,
            CASE WHEN n < 31250 THEN :earlier ELSE NULL END AS finalized_at
        FROM numbers
    )
    INSERT INTO record (
        batch_id, row_number, environment_id, serial_number, user_id, device_id, otp_type, has_second_otp, otps,
        status, scheduled_at, otp_expires_at, lease_id, lease_until, finalized_at, otp_sent_at, otp1_state, otp1_posts,
        otp2_state, otp2_posts, not_found, attempts, attempts_forgiven, requests, rate_limited, resynced,
        is_in_inventory, is_token_made, is_device_made, posts_forgiven, pairing, pairings
    )
    SELECT :batch_id, n + 2, :environment_id, 'LARGE' || n, 'user', 'device' || n, 'hotp', TRUE, NULL,
        status, :earlier, otp_expires_at, lease_id, lease_until, finalized_at, :earlier, otp1_state, 1,
        'unsent', 0, 0, 1, 0, 1, 0, FALSE, TRUE, FALSE, FALSE, 0, 'unsent', 0
    FROM conditions
"""
# The history of what is done: one attempt in 25 failed.
HISTORY = """
    INSERT INTO attempt (record_id, batch_id, number, outcome, reason, lease_id, requests, otp_posts, ended_at)
    SELECT id, batch_id, 1, status, CASE WHEN status = 'dead_letter' THEN 'rejected' END, 'lease', 1, 1, :earlier
    FROM record WHERE status IN ('active', 'dead_letter')
"""
# As many failures once more, of records that were not tried before.
FAILURES = """
    INSERT INTO attempt (record_id, batch_id, number, outcome, reason, lease_id, requests, otp_posts, ended_at)
    SELECT id, batch_id, 1, 'dead_letter', 'rejected', 'lease', 1, 1, otp_sent_at FROM record WHERE row_number > 48750
"""
LISTED = [InventoryToken(str(number), f"LARGE{49_000 + number}", user_id="user") for number in range(20)]
# Threads of a worker, and what they write together: a claim, that an OTP was answered, a settlement with its line.
THREADS = 4
COMBINED = (r"lease_id=given\.this_lease", r"^UPDATE record SET device_id=given", r"^WITH settled|, settled")
PENDING = {"ix_record_half_done", "ix_record_expiring", "ix_record_lasting"}
DUE = PENDING | {"ix_record_unsettled"}
KEY = "pk_record"
# These are never a detour: what they lead to is in the window.
AT_HAND = {KEY, "ix_record_window"}
# These neither: they lead to one token.
AT_HAND |= {"ix_record_history", "uq_record_serial_key"}


def fill(database: MovingDatabase) -> Made:
    """The large batch, without its ids. With it come a small one of another environment and a cancelled one."""
    large = make_batch(database, 0, name="large")
    make_batch(database, 500, name="small", environment="second", environment_id="another-tenant")
    left = [{}, {"otp1_state": "answered"}, *[{"otp1_state": "sent"}] * 50]
    make_batch(database, left, name="cancelled", state="cancelled")
    now = database.read_clock()
    moments = {"earlier": now - timedelta(minutes=5), "later": now + timedelta(minutes=5)}
    statement = text(FILL.format(numbers=NUMBERS["sqlite" if database.is_sqlite else "postgresql"])).bindparams(
        *[bindparam(name, moment, UtcDateTime()) for name, moment in moments.items()],
        records=RECORDS,
        batch_id=large.batch_id,
        environment_id=ENVIRONMENT_ID,
    )
    database.change(statement, text(HISTORY).bindparams(bindparam("earlier", moments["earlier"], UtcDateTime())))
    return large


@dataclass(frozen=True)
class Query:
    """A statement as it went to the driver, with parameters that it went with."""

    statement: str
    parameters: Any

    @property
    def concerns_records(self) -> bool:
        return re.search(r"^(?:SELECT|UPDATE|WITH)\b.*\b(record|attempt)\b", self.statement, re.DOTALL) is not None


@contextmanager
def noting(database: Database) -> Iterator[list[Query]]:
    """The queries of the block that look for records or attempts."""
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
    """PostgreSQL's plan for whatever parameters: it may use that once a statement was prepared."""
    order: list[str] = []

    def number(found: re.Match[str]) -> str:
        order.append(found[1])
        return f"${len(order)}"

    statement = re.sub(r"%\((\w+)\)s", number, query.statement)
    with connection.connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def indexes(plan: str) -> set[str]:
    """Those that a plan goes by; `everything` where it looks at every record or attempt."""
    used = set(re.findall(r"(?:using|Index Scan on|COVERING INDEX|USING INDEX) (\w*_(?:record|attempt)\w*)", plan))
    if re.search(r"Seq Scan on (record|attempt)|SCAN (record|attempt)(?! USING)", plan):
        used.add("everything")
    if "SEARCH record USING INTEGER PRIMARY KEY" in plan:
        used.add(KEY)
    if "SEARCH attempt USING INTEGER PRIMARY KEY" in plan:
        used.add("pk_attempt")
    return used


def tick(database: Database, queue: Queue) -> None:
    """One that rescues, sweeps and looks for work, and publishes nothing, since the pace is on hold."""

    def environment(name: str) -> Environment:
        return make_environment(name=name, environment_id=ENVIRONMENT_ID if name == "default" else "another-tenant")

    held = SimpleNamespace(rate=500.0, read_hold_left=lambda: 1.0)
    broker = PublishedIds()
    make_dispatcher(database, broker, Settings(), environment=environment, pace=lambda _: held, queue=queue).tick()


def work(leases: Leases, record_id: int) -> None:
    """What a worker does with a record that it is sent."""
    claim = leases.claim(record_id, ENVIRONMENT_ID)
    answered = claim.progress.with_otp_answered(1)
    assert leases.write_progress(claim, answered)
    assert leases.settle(claim, answered, Active(), called(1))


def work_together(leases: Leases, ids: Sequence[int], queries: Sequence[Query]) -> None:
    """The same in several threads, until each of the three writes was one statement for several records."""
    left = deque(ids)

    def take_turns() -> None:
        while not has_all() and left:
            work(leases, left.popleft())

    def has_all() -> bool:
        together = [query.statement for query in [*queries] if "unnest" in query.statement]
        return all(any(re.search(written, statement) for statement in together) for written in COMBINED)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(take_turns) for _ in range(THREADS)]:
            done.result()
    assert has_all(), "nothing was written together"


def note_queries(database: Database, large: Made) -> dict[str, tuple[set[str], list[Query]]]:
    """Does everything once, for real: what was done, the indexes that it should go by, and its queries."""
    queue, leases, noted = Queue(database), Leases(database), {}

    def note(name: str, expected: set[str], step: Callable[[list[Query]], Any]) -> Any:
        with noting(database) as queries:
            result = step(queries)
        noted[name] = (expected, queries)
        return result

    def write(name: str, expected: set[str], step: Callable[[Connection], Any]) -> Any:
        def in_transaction(_: object) -> Any:
            with database.writing() as connection:
                return step(connection)

        return note(name, expected, in_transaction)

    write("rescue", {"ix_record_window", KEY}, queue.rescue)
    write("in_window", {"ix_record_window"}, queue.count_window)
    write(
        "count_settled_lately",
        {"ix_record_finalized_at"},
        lambda c: queue.count_settled_lately(c, [large.batch_id], 10.0),
    )
    write("sweep_cancelled", DUE | {KEY}, queue.sweep_cancelled)
    write("enqueue_reads", {"ix_record_unsettled", KEY}, lambda c: queue.enqueue_reads(c, large.batch_id, 50, 60.0))
    ids = write("enqueue", DUE | {KEY}, lambda c: queue.enqueue(c, large.batch_id, 5000, 600.0))
    write("unqueue", {KEY}, lambda c: queue.unqueue(c, ids[3000:]))
    note("tick", DUE | {"ix_record_window"}, lambda _: tick(database, queue))
    note("worker", {KEY}, lambda _: work(leases, ids[0]))
    if not database.is_sqlite:
        note("workers together", {KEY}, lambda queries: work_together(leases, ids[1:3000], queries))

    # The preparation, which is asked every other tick whether there is something to do.
    lacks = {"ix_record_lacks_user", "ix_record_lacks_token"}
    absent: Any = None
    turns, people = Turns(database), People(database, 40)
    tokens = Tokens(database, Keyring([generate_key()]), absent, absent, Tuning())
    preparation = Preparation(database, absent, absent, turns, people, tokens, absent, is_stopping=absent)
    turn = Turn(large.batch_id, "default", "", may_import=True)
    note("turns", lacks, lambda _: turns.begin())
    note("people", {"ix_record_lacks_user"}, lambda _: people.list_unknown(turn, lambda *_: []).advance())
    note("tokens", lacks, lambda _: preparation._read_state(turn))
    note("inventory", set(), lambda _: tokens.take_in(large.batch_id, LISTED))
    note("imports", {"ix_record_lacks_token"}, lambda _: tokens.begin(turn, is_whole=False))
    # Last, since it may pause the batch. However many records became active above, the latest attempts are failures.
    with database.writing() as connection:
        connection.execute(text(FAILURES))
    untried = {"ix_record_lasting", "ix_record_expiring"} | lacks
    evidence = {"ix_attempt_failed", "ix_attempt_record_id", "pk_attempt"} | untried
    note("judge", evidence, lambda _: Upkeep(database, Thresholds()).apply_breaker(large.batch_id))
    return noted


def plans(database: Database, queries: Sequence[Query], *, is_for_any: bool = True) -> Iterator[str]:
    """The plans for the parameters that they went with; and on PostgreSQL for any."""
    with database.reading() as connection:
        for query in queries:
            yield explain(connection, query)
            if is_for_any and not database.is_sqlite:
                yield explain_for_any(connection, query)


def analyze(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    # SQLite reads the statistics when a connection is opened.
    database.engine.dispose()


def test_the_queries_of_every_tick_go_by_the_partial_indexes(database_url: str) -> None:
    with closing(MovingDatabase(database_url)) as setup:
        large = fill(setup)
    with closing(Database(database_url)) as database:
        noted = note_queries(database, large)
        # SQLite has no statistics unless somebody asks for them, so it must do without, too.
        for is_analysed in (False, True) if database.is_sqlite else (True,):
            if is_analysed:
                analyze(database)
            for what, (expected, queries) in noted.items():
                used = set().union(*map(indexes, plans(database, queries)))
                assert expected <= used <= expected | AT_HAND, (what, expected, used)


def test_a_worker_finds_its_records_by_their_keys_whatever_the_statistics_say(postgres_url: str) -> None:
    """They are out of date as soon as a batch begins, and say that the window is empty: to look through it seems to
    cost nothing."""
    with closing(MovingDatabase(postgres_url)) as setup:
        made = make_batch(setup, 3000)
        analyze(setup)
    with closing(Database(postgres_url)) as database:
        queue, leases = Queue(database), Leases(database)
        with database.writing() as connection:
            ids = queue.enqueue(connection, made.batch_id, 2500, 600.0)
        with noting(database) as queries:
            work_out_of_step(leases, ids[0])
            hand_back(leases, ids[1:3])
            with database.writing() as connection:
                queue.unqueue(connection, ids[3:5])
        assert len(queries) >= 7
        for query, plan in zip(queries, plans(database, queries, is_for_any=False), strict=True):
            assert "ix_record_window" not in plan, (query.statement, plan)


def work_out_of_step(leases: Leases, record_id: int) -> None:
    """What a worker does with a record whose second OTP is wanted, and tried again."""
    claim = leases.claim(record_id, ENVIRONMENT_ID)
    answered = claim.progress.with_otp_answered(1)
    assert leases.write_progress(claim, answered)
    assert leases.mark_sent(claim, 2)
    assert leases.renew_mark(claim)
    assert leases.may_read(claim)
    assert leases.settle(claim, answered.with_otp_sent(2).with_otp_answered(2), Active(), called(2))


def hand_back(leases: Leases, ids: Sequence[int]) -> None:
    """What becomes of records that a worker may not take up."""
    assert leases.find_foreign_batch(ids[0], "default", "another-tenant") is not None
    assert leases.hand_back(ids[0], 5.0)
    assert not leases.hand_back_stopped(ids[1])
