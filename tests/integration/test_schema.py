"""The schema's history, up and down, on both databases.

Expand, then contract: while the schema is brought up to date, workers of the version before go on working on it. What
they say to the database was recorded with their own code (tests/samples/old_code): a small batch, from its load to a
person's commands. That shows that each statement still does what it did. It does not show the old programs themselves,
nor what statements of both versions do to each other at one moment."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from psycopg.types.json import Json
from sqlalchemy import Column, Connection, MetaData, Table, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from support.data.audit_lines import hash_of
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, count, enqueue, make_batch
from support.data.moving_clock import MovingDatabase
from support.processes.waiting import wait_until

from migrations import HEAD
from models.attempt import AttemptLine
from models.audit import Action, AuditLine
from models.base import Base
from models.batch import Batch
from models.record import Record
from models.record_states import Status
from worker import audit
from worker.audit import GENESIS
from worker.config.settings import ConfigError
from worker.database import schema
from worker.database.engine import AUDIT_LOCK, Database
from worker.installation.installation import Installation
from worker.leases.lease import CallSummary, Leases
from worker.reports.facts import read_statuses
from worker.rules.steps import Active

CHECKOUT = Path(schema.__file__).parents[2]
SAMPLES = Path(__file__).parents[1] / "samples" / "old_code"
TABLES = {
    *("batch", "record", "attempt", "audit", "pace", "process", "tenant_fact", "inventory_job", "notice"),
    *("refused_rows", "past_token", "sealed_key"),
}

MakeDatabase = Callable[[], MovingDatabase]


@pytest.fixture(params=["postgresql", "sqlite"])
def make_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeDatabase]:
    """Makes databases without a single table."""
    with ExitStack() as stack:

        def make() -> MovingDatabase:
            if request.param == "sqlite":
                url = f"sqlite:///{tmp_path / uuid.uuid4().hex}.db"
            else:
                url = stack.enter_context(request.getfixturevalue("postgres_server").database())
            return stack.enter_context(closing(MovingDatabase(url)))

        yield make


@pytest.fixture
def empty(make_empty: MakeDatabase) -> MovingDatabase:
    return make_empty()


def read(database: MovingDatabase, *statements: str) -> set[str]:
    return {line for statement in statements for line in database.values(text(statement))}


def tables(database: MovingDatabase) -> set[str]:
    return set(inspect(database.engine).get_table_names()) - {"alembic_version"}


def definitions(database: MovingDatabase) -> set[str]:
    """What the database says of its columns, constraints, indexes and triggers, in words that do not depend on their
    order."""
    if database.is_sqlite:
        found = read(
            database,
            """SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || c.pk
               FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'""",
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        )
    else:
        found = read(
            database,
            """SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable,
                                column_default, is_identity)
               FROM information_schema.columns WHERE table_schema = 'public'""",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
            """SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
               WHERE connamespace = 'public'::regnamespace""",
        )
    inspector = inspect(database.engine)
    found |= {
        f"{table} {check['name']} {check['sqltext']}"
        for table in tables(database)
        for check in inspector.get_check_constraints(table)
    }
    return {re.sub(r"\s+", " ", line) for line in found if "alembic_version" not in line}


def triggers(database: MovingDatabase) -> set[str]:
    on_sqlite = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    return read(database, on_sqlite if database.is_sqlite else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")


def rows(database: Database, table: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id")).mappings()]


def write_down(database: MovingDatabase, batch: str = "shipment") -> None:
    with database.writing() as connection:
        audit.append(database, connection, TESTER, Action.PAUSE, batch, {})


def execute(database: MovingDatabase, statement: str) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql(statement)


def downgrade(database: MovingDatabase, revision: str) -> None:
    with database.migrating() as connection:
        command.downgrade(schema.configure(connection), revision)


def check(database: MovingDatabase) -> None:
    """That migrations lead to what the models describe. Raises alembic's CommandError if not."""
    with database.migrating() as connection:
        command.check(schema.configure(connection))


def test_migrations_lead_to_the_schema_that_the_models_would_create_and_once_more_they_change_nothing(
    empty: MovingDatabase,
) -> None:
    """Alembic's own check overlooks conditions of indexes and checks; the database itself does not."""
    assert schema.current(empty) is None
    assert schema.upgrade(empty) == HEAD
    assert tables(empty) == TABLES
    schema.ensure_current(empty)
    check(empty)
    migrated = definitions(empty)

    make_batch(empty, 3)
    assert schema.upgrade(empty) == HEAD
    assert (count(empty, Record), definitions(empty)) == (3, migrated)

    downgrade(empty, "base")
    with empty.writing() as connection:
        Base.metadata.create_all(connection)
    assert definitions(empty) == migrated


def test_every_revision_goes_down_with_data_in_it_and_up_by_itself(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, 3)
    enqueue(empty, made)
    Leases(empty).claim(made.ids[0], ENVIRONMENT_ID)
    up = definitions(empty), triggers(empty)

    while schema.current(empty) is not None:
        downgrade(empty, "-1")
    assert tables(empty) == set()
    while schema.current(empty) != HEAD:
        schema.upgrade(empty, "+1")

    assert (definitions(empty), triggers(empty)) == up


def test_data_goes_through_all_revisions_down_and_up(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    pasts = [{}, {"status": Status.ACTIVE}, {"status": Status.DEAD_LETTER}]
    pasts.append({"status": Status.ACTIVE, "user_id": "", "device_id": ""})
    made = make_batch(empty, pasts)
    enqueue(empty, made)
    leases = Leases(empty)
    claimed = leases.claim(made.ids[0], ENVIRONMENT_ID)
    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))
    kept = {table: rows(empty, table) for table in ("batch", "record", "attempt")}
    assert [len(lines) for lines in kept.values()] == [1, 4, 1]
    now = empty.now()
    waits = {"state": "paused", "canary": 3, "probe_at": now, "outages": 2}
    waits |= {"daily_window": "22:00-05:30", "zone": "UTC", "closes_at": now, "resumes_at": now}

    for reason in ("outage", "window", "quota"):
        empty.change(update(Batch).values(waits | {"reason": reason}))
        write_down(empty)
        downgrade(empty, "0001")
        assert tables(empty) == {"batch", "record", "attempt"}
        schema.upgrade(empty)

        # What an earlier version does not know is gone. It would wait for ever, so a person has to resume.
        (batch,) = rows(empty, "batch")
        assert "oathbulk resume" in batch["detail"]
        assert batch == kept["batch"][0] | {"state": "paused", "reason": "person", "detail": batch["detail"]}
    # It knew nothing of pairings either: devices are read once more.
    assert rows(empty, "record") == [record | {"pairing": "unsent"} for record in kept["record"]]
    unknown = {"batch_id": None, "otp_posts": 0, "call_milliseconds": None}
    assert rows(empty, "attempt") == [attempt | unknown for attempt in kept["attempt"]]
    assert rows(empty, "audit") == []
    check(empty)
    if empty.is_sqlite:
        assert read(empty, "PRAGMA foreign_key_check") == set()


def write_as_before_0005(database: MovingDatabase, count: int) -> None:
    """Lines as the code of revision 0004 wrote them."""
    former, names = GENESIS, ("id", "at", "actor", "action", "batch", "ticket", "facts", "hash")
    old = Table("audit", MetaData(), *(Column(name, AuditLine.__table__.c[name].type) for name in names))
    for number in range(1, count + 1):
        line = {"id": number, "at": datetime(2026, 5, 4, 13, number, tzinfo=UTC), "actor": "alice", "action": "pause"}
        line |= {"batch": f"batch {number}", "ticket": "CHG-1", "facts": {"records": number, "why": "«7»"}}
        former = hash_of(line, former)
        database.change(insert(old).values(line | {"hash": former}))


def refuses_changes(database: MovingDatabase, *more: str) -> bool:
    for change in ("UPDATE audit SET actor = 'somebody else'", "DELETE FROM audit", *more):
        with pytest.raises(DBAPIError, match="append-only"):
            execute(database, change)
    return True


def test_no_line_of_the_audit_is_lost_or_changed_through_0005_up_and_down_and_up(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0004")
    write_as_before_0005(empty, 3)
    before = rows(empty, "audit")
    assert len(before) == 3

    schema.upgrade(empty)
    assert rows(empty, "audit") == [line | {"mac": None} for line in before]
    assert refuses_changes(empty)
    write_down(empty)
    after = rows(empty, "audit")

    # The earlier version finds every line as it was, its chain whole, and can write another.
    downgrade(empty, "0004")
    assert rows(empty, "audit") == [{name: line[name] for name in before[0]} for line in after]
    assert refuses_changes(empty)
    with empty.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO audit VALUES (5, '2026-05-04 13:30:00', 'a', 'pause', 'b', NULL, '{}', 'h')"
        )
        connection.rollback()

    schema.upgrade(empty)
    assert rows(empty, "audit") == after
    assert refuses_changes(empty)
    with empty.reading() as connection:
        assert audit.check(connection) == audit.CheckResult(4, None, None, has_keys=False)


def test_the_database_itself_refuses_to_change_the_audit(database: MovingDatabase) -> None:
    write_down(database, "first")
    write_down(database, "second")
    before = rows(database, "audit")

    replace = "REPLACE INTO audit SELECT id, at, 'somebody else', action, batch, ticket, facts, hash, mac FROM audit"
    upsert = "INSERT INTO audit SELECT * FROM audit WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'"
    one_line = "UPDATE audit SET hash = hash WHERE id = 1", "DELETE FROM audit WHERE id = 2"
    assert refuses_changes(database, *one_line, upsert, replace if database.is_sqlite else "TRUNCATE audit")

    assert rows(database, "audit") == before
    write_down(database, "third")
    assert [line["id"] for line in rows(database, "audit")] == [1, 2, 3]


def test_a_command_that_is_about_to_write_its_line_and_an_upgrade_do_not_wait_for_each_other(
    empty: MovingDatabase,
) -> None:
    schema.upgrade(empty, "0004")

    def write_down_upgrade(connection: Connection, before: str, after: str) -> None:
        audit.append(empty, connection, TESTER, Action.UPGRADE, None, {"before": before, "after": after})

    with ThreadPoolExecutor(1) as threads:
        with empty.writing() as connection:
            empty.lock(connection, AUDIT_LOCK)
            upgraded = threads.submit(schema.upgrade, empty, on_change=write_down_upgrade)
            if not empty.is_sqlite:
                # Until the upgrade waits for something.
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                wait_until(lambda: connection.exec_driver_sql(waits).scalar_one() > 0, "the upgrade waits")
            connection.exec_driver_sql("SELECT count(*) FROM audit")
        assert upgraded.result(timeout=60) == HEAD

    assert [(line["action"], line["batch"]) for line in rows(empty, "audit")] == [("upgrade", None)]


def test_an_upgrade_tells_what_it_changed_nothing_where_nothing_changed_and_is_none_if_it_cannot_be_written_down(
    empty: MovingDatabase,
) -> None:
    changes = list[tuple[str, str]]()

    def note(_: Connection, before: str, after: str) -> None:
        changes.append((before, after))
        if len(changes) == 1:
            raise ConfigError("no key")

    schema.upgrade(empty, "0003", note)
    assert changes == []
    with pytest.raises(ConfigError):
        schema.upgrade(empty, on_change=note)
    assert schema.current(empty) == "0003"
    schema.upgrade(empty, on_change=note)
    schema.upgrade(empty, on_change=note)

    assert changes == [("0003", HEAD)] * 2


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty: MovingDatabase) -> None:
    # In the way of the third table: the first two are made already when it fails.
    execute(empty, "CREATE TABLE attempt (id INTEGER)")

    with pytest.raises(Exception, match="attempt"):
        schema.upgrade(empty)

    assert tables(empty) == {"attempt"}
    assert schema.current(empty) is None


def test_a_database_of_another_version_is_told_with_the_cure_and_one_of_a_later_version_is_left_alone(
    empty: MovingDatabase,
) -> None:
    is_empty = r"^the database is empty: run `oathbulk db upgrade`$"
    with pytest.raises(schema.SchemaOutdated, match=is_empty):
        schema.ensure_current(empty)
    schema.upgrade(empty)
    later = rf"^the database is at revision 9999, and this version knows {HEAD} at most: .*\(docs/operating\.md\)$"
    for statement, told, acts in (
        ("UPDATE alembic_version SET version_num = '9999'", later, (schema.ensure_current, schema.upgrade)),
        (
            "UPDATE alembic_version SET version_num = '0000'",
            f"^the database is at revision 0000, not {HEAD}: run `oathbulk db upgrade`$",
            (schema.ensure_current,),
        ),
        ("DELETE FROM alembic_version", is_empty, (schema.ensure_current,)),
    ):
        execute(empty, statement)
        before = schema.current(empty)
        for act in acts:
            with pytest.raises(schema.SchemaOutdated, match=told):
                act(empty)
        assert schema.current(empty) == before


def test_the_embedded_database_of_an_earlier_version_is_brought_up_to_date_unasked(tmp_path: Path) -> None:
    here = Installation({"OATHBULK_HOME": str(tmp_path)}, makes_home=True)
    downgrade(here.database, "0001")
    here.database.close()

    with closing(Installation({"OATHBULK_HOME": str(tmp_path), "OATHBULK_ACTOR": "alice"}).database) as later:
        assert schema.current(later) == HEAD
        (line,) = rows(later, "audit")
    assert (line["actor"], line["action"], line["batch"]) == ("alice", "upgrade", None)


UPGRADE = """
import os, sys
from worker.database import schema
from worker.database.engine import Database
assert schema.__file__.startswith(sys.argv[1]), schema.__file__
database = Database(os.environ["URL"])
print(schema.upgrade(database))
database.close()
"""


def test_an_installed_wheel_upgrades_and_two_at_once_do_not_collide(empty: MovingDatabase, tmp_path: Path) -> None:
    """Without a checkout or an alembic.ini, and from a directory whose name ConfigParser could misread."""
    site, elsewhere = tmp_path / "50% site-packages", tmp_path / "elsewhere"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(CHECKOUT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere.mkdir()
    url = empty.engine.url.render_as_string(hide_password=False)

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, str(site)],
            cwd=elsewhere,
            env={"PYTHONPATH": str(site), "URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], ends
    assert [out.strip() for out, _ in ends] == [HEAD] * 2
    assert tables(empty) == TABLES


# What single revisions make of data.


def make_before(database: MovingDatabase, **columns: Any) -> None:
    """A batch of one record with a user name, as the code of revision 0005 wrote them."""
    now = "2026-05-04 13:30:00"
    batch = {"name": "b", "environment": "d", "environment_id": "e", "state": "running", "file": "f", "total": 1}
    batch |= {"file_sha256": "s", "columns": "[]", "rows_refused": 0, "created_at": now, "running_since": now}
    record = {"batch_id": 1, "row_number": 2, "environment_id": "e", "serial_number": "M1", "user_id": "u"}
    record |= {"device_id": "d", "username": "alice@example.test", "otp_type": "hotp", "has_second_otp": True}
    record |= dict.fromkeys(("otp1_posts", "otp2_posts", "not_found", "attempts", "attempts_forgiven"), 0)
    record |= {"requests": 0, "rate_limited": 0, "resynced": False, "otp1_state": "unsent", "otp2_state": "unsent"}
    record |= {"status": "pending", "scheduled_at": now}
    with database.writing() as connection:
        for table, values in (("batch", batch | columns), ("record", record)):
            names = f"INSERT INTO {table} ({', '.join(values)}) VALUES (:{', :'.join(values)})"
            connection.execute(text(names), values)


@pytest.mark.parametrize(
    ("columns", "parted"),
    [
        (["serial", "otp1", "E-Mail"], {"username": None, "email": "alice@example.test"}),
        (["serial", "otp1", "UPN"], {"username": "alice@example.test", "email": None}),
    ],
)
def test_0006_parts_addresses_from_user_names_and_back(
    empty: MovingDatabase, columns: list[str], parted: dict[str, str | None]
) -> None:
    """The earlier version took a column `email` for the user name."""
    schema.upgrade(empty, "0005")
    make_before(empty, columns=json.dumps(columns))
    schema.upgrade(empty)
    assert {name: rows(empty, "record")[0][name] for name in parted} == parted

    downgrade(empty, "0005")
    assert rows(empty, "record")[0]["username"] == "alice@example.test"


@pytest.mark.parametrize(
    ("revision", "needed", "told", "given_up"),
    [
        ("0005", {"next_counter": 5}, "records with seeds are there", {"otps": None}),
        ("0006", {"user_id": ""}, "whose user or device is not known yet", {"status": Status.CANCELLED}),
        ("0006", {"device_id": ""}, "whose user or device is not known yet", {"status": Status.CANCELLED}),
    ],
)
def test_nothing_goes_down_to_where_a_record_cannot_be_worked_on(
    empty: MovingDatabase, revision: str, needed: dict[str, Any], told: str, given_up: dict[str, Any]
) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, [{}, needed])
    with pytest.raises(RuntimeError, match=told):
        downgrade(empty, revision)
    assert schema.current(empty) == HEAD

    empty.change(update(Record).where(Record.id == made.ids[1]).values(given_up))
    downgrade(empty, revision)
    assert schema.current(empty) == revision


def test_0014_counts_the_posts_of_a_new_budget_from_0_and_back(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0013")
    make_before(empty)
    execute(empty, "UPDATE record SET otp1_posts = 3, otp2_posts = 2, posts_forgiven = 4")

    for change, posts in ((lambda: schema.upgrade(empty), (1, 0, 4)), (lambda: downgrade(empty, "0013"), (5, 0, 4))):
        change()
        (record,) = rows(empty, "record")
        assert (record["otp1_posts"], record["otp2_posts"], record["posts_forgiven"]) == posts


def test_0016_tells_what_an_undo_took_back_and_back(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0015")
    make_before(empty)
    execute(
        empty,
        "UPDATE record SET status = 'cancelled', lease_id = NULL, reason = NULL, detail = 'An undo took it back. It'",
    )

    for change, reason in ((lambda: schema.upgrade(empty), "taken_back"), (lambda: downgrade(empty, "0015"), None)):
        change()
        (record,) = rows(empty, "record")
        assert record["reason"] == reason


# Workers of the version before.

REVISIONS = sorted(path.name.partition("_")[0] for path in SAMPLES.glob("*_sqlite.json"))
# A fleet is seldom upgraded from further back; the long tests do that.
LATEST = REVISIONS[-3:]


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
    history = database.rows(select(*lines).order_by(AttemptLine.id))
    return [*database.rows(select(*columns).order_by(Record.id)), *history]


@pytest.mark.parametrize("is_half_worked", [False, True], ids=["empty", "half worked"])
@pytest.mark.parametrize(
    "before", [pytest.param(each, marks=[] if each in LATEST else pytest.mark.faults) for each in REVISIONS]
)
def test_old_workers_go_on_beside_the_new_schema_and_new_ones_finish(
    make_empty: MakeDatabase, before: str, is_half_worked: bool
) -> None:
    control, database = make_empty(), make_empty()
    for each in (control, database):
        schema.upgrade(each, before)
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
    database.ahead = 1000.0
    leases = Leases(database)
    left = enqueue(database, Made(1, "shipment", []))
    assert left
    for record_id in left:
        claim = leases.claim(record_id, "environment")
        progress = claim.progress.with_device_waiting().with_otp_sent(1).with_otp_answered(1)
        assert leases.settle(claim, progress, Active(), CallSummary(requests=1))


def test_each_revision_has_the_record_of_the_code_before_it() -> None:
    """The next migration needs one too: tests/samples/old_code/record.py makes it."""
    versions = {path.name.partition("_")[0] for path in (CHECKOUT / "migrations/versions").glob("0*.py")}
    assert {path.name.partition("_")[0] for path in SAMPLES.glob("*.json")} == versions - {HEAD}


def test_this_version_can_be_recorded_for_the_migration_that_follows(database: MovingDatabase) -> None:
    runpy.run_path(str(SAMPLES / "record.py"))["live"](database)

    (status,) = read_statuses(database, "shipment")
    assert (status.total, status.counts["active"], status.counts["dead_letter"]) == (9, 2, 1)
