"""The schema's history, up and down, on both databases."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Column, Connection, MetaData, Table, insert, inspect, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.data.audit_lines import hash_of
from support.data.batches import ENVIRONMENT_ID, TESTER, count, enqueue, make_batch
from support.data.moving_clock import MovingDatabase
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer

from migrations import HEAD
from models.attempt import AttemptLine
from models.audit import Action, AuditLine
from models.base import Base
from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import Status
from models.refused_row import REFUSED
from worker import audit
from worker.audit import GENESIS
from worker.config.settings import ConfigError
from worker.database import schema
from worker.database.engine import AUDIT_LOCK
from worker.installation.installation import Installation
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.reports.export import export
from worker.reports.facts import read_statuses
from worker.reports.search import NotKept
from worker.rules.progress import Active

CHECKOUT = Path(schema.__file__).parents[2]
TABLES = {
    *("batch", "record", "attempt", "audit", "pace", "process", "tenant_fact", "inventory_job", "notice"),
    *("refused_rows", "past_token", "sealed_key"),
}


@pytest.fixture(params=["postgresql", "sqlite"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    assert isinstance(server, PostgresServer)
    with server.database() as url:
        yield url


@pytest.fixture
def empty(empty_url: str) -> Iterator[MovingDatabase]:
    database = MovingDatabase(empty_url)
    yield database
    database.close()


@pytest.fixture
def leases_of_empty(empty: MovingDatabase) -> Leases:
    return Leases(empty)


def tables(database: MovingDatabase) -> set[str]:
    return set(inspect(database.engine).get_table_names()) - {"alembic_version"}


def definitions(database: MovingDatabase) -> set[str]:
    """What the database says of its columns, constraints and indexes, in words that do not depend on their order."""
    if database.is_sqlite:
        statements = [
            """SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || c.pk
               FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'""",
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        ]
    else:
        statements = [
            """SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable,
                                column_default, is_identity)
               FROM information_schema.columns WHERE table_schema = 'public'""",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
            """SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
               WHERE connamespace = 'public'::regnamespace""",
        ]
    with database.reading() as connection:
        found = [line for statement in statements for line in connection.scalars(text(statement))]
    return {re.sub(r"\s+", " ", line) for line in found if "alembic_version" not in line}


def triggers(database: MovingDatabase) -> set[str]:
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if database.is_sqlite
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    with database.reading() as connection:
        return set(connection.scalars(text(names)))


def rows(database: MovingDatabase, table: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id")).mappings()]


def write_down(database: MovingDatabase, batch: str = "shipment") -> None:
    with database.writing() as connection:
        audit.append(database, connection, TESTER, Action.PAUSE, batch, {})


def checks(database: MovingDatabase) -> set[tuple[str, str | None, str]]:
    inspector = inspect(database.engine)
    return {
        (table, check["name"], check["sqltext"])
        for table in tables(database)
        for check in inspector.get_check_constraints(table)
    }


def downgrade(database: MovingDatabase, revision: str) -> None:
    with database.migrating() as connection:
        command.downgrade(schema.configure(connection), revision)


def check(database: MovingDatabase) -> None:
    """That migrations lead to what the models describe. Raises alembic's CommandError if not."""
    with database.migrating() as connection:
        command.check(schema.configure(connection))


def test_an_empty_database_is_brought_up_to_date(empty: MovingDatabase) -> None:
    assert schema.current(empty) is None

    assert schema.upgrade(empty) == HEAD

    assert tables(empty) == TABLES
    schema.ensure_current(empty)


def test_models_and_migrations_say_the_same(empty: MovingDatabase) -> None:
    schema.upgrade(empty)

    check(empty)


def test_the_migrated_schema_is_the_one_that_the_models_would_create(empty: MovingDatabase) -> None:
    """Alembic's own check overlooks conditions of indexes and checks; the database itself does not."""
    schema.upgrade(empty)
    migrated = definitions(empty), checks(empty)
    downgrade(empty, "base")
    with empty.writing() as connection:
        Base.metadata.create_all(connection)

    assert (definitions(empty), checks(empty)) == migrated


def test_a_second_upgrade_changes_nothing_and_keeps_the_data(database: MovingDatabase) -> None:
    make_batch(database, 3)
    before = definitions(database)

    assert schema.upgrade(database) == HEAD

    assert count(database, Record) == 3
    assert definitions(database) == before


def test_everything_goes_down_again_with_data_in_it(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, 3)
    enqueue(empty, made)
    assert Leases(empty).claim(made.ids[0], ENVIRONMENT_ID) is not None

    downgrade(empty, "base")

    assert tables(empty) == set()
    assert schema.current(empty) is None


def test_up_again_after_down(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    downgrade(empty, "base")

    schema.upgrade(empty)

    make_batch(empty, 3)
    assert count(empty, Batch) == 1
    assert count(empty, AttemptLine) == 0


def test_every_revision_goes_down_and_up_by_itself(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    up = definitions(empty), triggers(empty)

    while schema.current(empty) is not None:
        downgrade(empty, "-1")
    while schema.current(empty) != HEAD:
        schema.upgrade(empty, "+1")

    assert (definitions(empty), triggers(empty)) == up


WINDOW = ("daily_window", "zone", "closes_at", "resumes_at")
# Of a batch and of an attempt, as they are where an earlier version wrote the row.
MARKS = {"judged_after": 0, "running_after": 0, "trial_row": None, "parent_id": None, "already_active": 0}
MARKS |= {"purged_at": None, "outcome": None}
PREPARATION = {"may_import": False, "may_pair": False, "inventory_read_at": None, "prepared_until": None}
BELONGING = {"batch_id": None, "otp_posts": 0, "call_milliseconds": None}


def without_pairing(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records that an earlier version had in hand, which knew nothing of pairings: their devices are read once more."""
    return [record | {"pairing": "unsent"} for record in records]


def test_data_goes_through_0002_down_and_up(empty: MovingDatabase, leases_of_empty: Leases) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, [{}, {"status": Status.ACTIVE}, {"status": Status.DEAD_LETTER}])
    enqueue(empty, made)
    claimed = leases_of_empty.claim(made.ids[0], ENVIRONMENT_ID)
    assert claimed is not None
    leases_of_empty.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))
    kept = {table: rows(empty, table) for table in ("batch", "record", "attempt")}
    assert [len(lines) for lines in kept.values()] == [1, 3, 1]
    with empty.writing() as connection:
        outage = {"state": "paused", "reason": "outage", "canary_row": 3, "probe_at": empty.now(), "outages": 2}
        connection.execute(update(Batch).values(outage))

    for _ in range(2):
        write_down(empty)
        downgrade(empty, "0001")
        assert tables(empty) == {"batch", "record", "attempt"}
        lost = {"canary_row", "probe_at", "outages", *WINDOW, *MARKS, *PREPARATION}
        assert set(kept["batch"][0]) - set(rows(empty, "batch")[0]) == lost
        schema.upgrade(empty)

    # What an earlier version does not know is gone. It would not probe, so a person has to resume.
    assert "oathbulk resume" in rows(empty, "batch")[0]["detail"]
    outcome = {"state": "paused", "reason": "person", "canary_row": None, "probe_at": None, "outages": 0}
    assert [batch | {"detail": None} for batch in rows(empty, "batch")] == [kept["batch"][0] | outcome]
    assert rows(empty, "record") == without_pairing(kept["record"])
    assert rows(empty, "attempt") == [attempt | BELONGING for attempt in kept["attempt"]]
    assert rows(empty, "audit") == []
    check(empty)
    if empty.is_sqlite:
        with empty.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


@pytest.mark.parametrize("reason", ["window", "quota"])
def test_what_waits_for_a_time_waits_for_a_person_after_0003_went_down(empty: MovingDatabase, reason: str) -> None:
    """The earlier version lets none of it go on, and would wait for ever."""
    schema.upgrade(empty)
    make_batch(empty, 2)
    before = rows(empty, "batch")[0]
    with empty.writing() as connection:
        waits = {"daily_window": "22:00-05:30", "zone": "UTC", "closes_at": empty.now(), "resumes_at": empty.now()}
        connection.execute(update(Batch).values(waits | {"state": "paused", "reason": reason, "outages": 1}))
    records = rows(empty, "record")

    downgrade(empty, "0002")
    below = rows(empty, "batch")[0]
    schema.upgrade(empty)

    assert set(before) - set(below) == {*WINDOW, *MARKS, *PREPARATION}
    assert (below["reason"], below["outages"]) == ("person", 1)
    assert "oathbulk resume" in below["detail"]
    assert rows(empty, "batch")[0] == below | dict.fromkeys(WINDOW) | MARKS | PREPARATION
    assert rows(empty, "record") == without_pairing(records)
    check(empty)


def test_a_file_is_still_loaded_once_after_0002_down_and_up(empty: MovingDatabase) -> None:
    """SQLite copies the table of batches on the way, and its partial index must come along."""
    schema.upgrade(empty)
    make_batch(empty, name="first", file_sha256="f" * 64)
    downgrade(empty, "0001")
    schema.upgrade(empty)

    with pytest.raises(IntegrityError):
        make_batch(empty, name="second", file_sha256="f" * 64)
    with empty.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.CANCELLED))
    assert make_batch(empty, 0, name="second", file_sha256="f" * 64)


def write_as_before_0005(database: MovingDatabase, count: int) -> None:
    """Lines as the code of revision 0004 wrote them."""
    former, names = GENESIS, ("id", "at", "actor", "action", "batch", "ticket", "facts", "hash")
    old = Table("audit", MetaData(), *(Column(name, AuditLine.__table__.c[name].type) for name in names))
    for number in range(1, count + 1):
        line = {"id": number, "at": datetime(2026, 5, 4, 13, number, tzinfo=UTC), "actor": "alice", "action": "pause"}
        line |= {"batch": f"batch {number}", "ticket": "CHG-1", "facts": {"records": number, "why": "«7»"}}
        with database.writing() as connection:
            connection.execute(insert(old).values(line | {"hash": hash_of(line, former)}))
        former = hash_of(line, former)


def refuses_changes(database: MovingDatabase) -> bool:
    for change in ("UPDATE audit SET actor = 'somebody else'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
            connection.exec_driver_sql(change)
    return True


def test_no_line_of_the_audit_is_lost_or_changed_through_0005_up_and_down_and_up(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0004")
    write_as_before_0005(empty, 3)
    before = rows(empty, "audit")
    assert len(before) == 3

    schema.upgrade(empty)
    assert rows(empty, "audit") == [line | {"mac": None} for line in before]
    assert refuses_changes(empty)
    with empty.writing() as connection:
        audit.append(empty, connection, TESTER, Action.PACE, None, {"share": 0.5})
    after = rows(empty, "audit")

    # The earlier version finds every line as it was, and its chain whole.
    downgrade(empty, "0004")
    assert rows(empty, "audit") == [{name: line[name] for name in before[0]} for line in after]
    assert refuses_changes(empty)
    write_down_on_0004 = "INSERT INTO audit VALUES (5, '2026-05-04 13:30:00', 'a', 'pause', 'b', NULL, '{}', 'h')"
    with empty.writing() as connection:
        connection.exec_driver_sql(write_down_on_0004)
        connection.rollback()

    schema.upgrade(empty)
    assert rows(empty, "audit") == after
    assert refuses_changes(empty)
    with empty.reading() as connection:
        assert audit.check(connection) == audit.CheckResult(4, None, None, has_keys=False)
    check(empty)


def test_a_command_that_is_about_to_write_its_line_and_an_upgrade_do_not_wait_for_each_other(
    empty: MovingDatabase,
) -> None:
    schema.upgrade(empty, "0004")
    has_lock, upgraded = threading.Event(), list[str]()

    def write_down_upgrade(connection: Connection, before: str, after: str) -> None:
        audit.append(empty, connection, TESTER, Action.UPGRADE, None, {"before": before, "after": after})

    def upgrade() -> None:
        has_lock.wait(timeout=30)
        upgraded.append(schema.upgrade(empty, on_change=write_down_upgrade))

    thread = threading.Thread(target=upgrade)
    thread.start()
    with empty.writing() as connection:
        empty.lock(connection, AUDIT_LOCK)
        has_lock.set()
        if not empty.is_sqlite:
            # Until the upgrade waits for something.
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: connection.exec_driver_sql(waits).scalar_one() > 0, 30, "the upgrade waits")
        connection.exec_driver_sql("SELECT count(*) FROM audit")
    thread.join(timeout=60)

    assert upgraded == [HEAD]
    assert [(line["action"], line["batch"]) for line in rows(empty, "audit")] == [("upgrade", None)]


def test_an_upgrade_tells_what_it_changed_and_nothing_where_nothing_changed(empty: MovingDatabase) -> None:
    changes = list[tuple[str, str]]()

    def note(_: Connection, before: str, after: str) -> None:
        changes.append((before, after))

    schema.upgrade(empty, "0003", note)
    assert changes == []
    schema.upgrade(empty, on_change=note)
    schema.upgrade(empty, on_change=note)

    assert changes == [("0003", HEAD)]


def test_an_upgrade_that_cannot_be_written_down_is_none(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0004")

    def refuse(*_: object) -> None:
        raise ConfigError("no key")

    with pytest.raises(ConfigError):
        schema.upgrade(empty, on_change=refuse)

    assert schema.current(empty) == "0004"


CHANGES = [
    "UPDATE audit SET actor = 'somebody else'",
    "UPDATE audit SET hash = hash WHERE id = 1",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id = 2",
]
CHANGES_ON_POSTGRESQL = [
    "TRUNCATE audit",
    "INSERT INTO audit SELECT * FROM audit ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'",
]
CHANGES_ON_SQLITE = [
    "REPLACE INTO audit SELECT id, at, 'somebody else', action, batch, ticket, facts, hash, mac FROM audit",
    "INSERT INTO audit SELECT * FROM audit WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'",
]


def test_the_database_itself_refuses_to_change_the_audit(database: MovingDatabase) -> None:
    write_down(database, "first")
    write_down(database, "second")
    before = rows(database, "audit")

    for change in CHANGES + (CHANGES_ON_SQLITE if database.is_sqlite else CHANGES_ON_POSTGRESQL):
        with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
            connection.exec_driver_sql(change)

    assert rows(database, "audit") == before
    write_down(database, "third")
    assert [line["id"] for line in rows(database, "audit")] == [1, 2, 3]


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty: MovingDatabase) -> None:
    with empty.writing() as connection:
        # In the way of the third table: the first two are made already when it fails.
        connection.exec_driver_sql("CREATE TABLE attempt (id INTEGER)")

    with pytest.raises(Exception, match="attempt"):
        schema.upgrade(empty)

    assert tables(empty) == {"attempt"}
    assert schema.current(empty) is None


def test_a_database_that_is_not_up_to_date_is_told_with_the_cure(empty: MovingDatabase) -> None:
    with pytest.raises(schema.SchemaOutdated, match=r"^the database is empty: run `oathbulk db upgrade`$"):
        schema.ensure_current(empty)

    schema.upgrade(empty)
    with empty.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    told = f"^the database is at revision 0000, not {HEAD}: run `oathbulk db upgrade`$"
    with pytest.raises(schema.SchemaOutdated, match=told):
        schema.ensure_current(empty)

    with empty.writing() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    with pytest.raises(schema.SchemaOutdated, match="empty"):
        schema.ensure_current(empty)


def test_a_database_that_a_later_version_has_upgraded_is_left_alone_and_told_so(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    with empty.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    told = rf"^the database is at revision 9999, and this version knows {HEAD} at most: .*\(docs/operating\.md\)$"
    for act in (schema.ensure_current, schema.upgrade):
        with pytest.raises(schema.SchemaOutdated, match=told):
            act(empty)
    assert schema.current(empty) == "9999"


def test_the_embedded_database_of_an_earlier_version_is_brought_up_to_date_unasked(tmp_path: Path) -> None:
    here = Installation({"OATHBULK_HOME": str(tmp_path)}, makes_home=True)
    downgrade(here.database, "0001")
    here.database.close()

    later = Installation({"OATHBULK_HOME": str(tmp_path), "OATHBULK_ACTOR": "alice"})

    assert schema.current(later.database) == HEAD
    (line,) = rows(later.database, "audit")
    assert (line["actor"], line["action"], line["batch"]) == ("alice", "upgrade", None)
    later.database.close()


UPGRADE = """
import os, sys
from worker.database import schema
from worker.database.engine import Database
assert schema.__file__.startswith(sys.argv[1]), schema.__file__
database = Database(os.environ["URL"])
print(schema.upgrade(database))
database.close()
"""


def test_an_installed_wheel_upgrades_and_two_at_once_do_not_collide(
    empty: MovingDatabase, empty_url: str, tmp_path: Path
) -> None:
    """Without a checkout or an alembic.ini, and from a directory whose name ConfigParser could misread."""
    site = tmp_path / "50% site-packages"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(CHECKOUT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, str(site)],
            cwd=elsewhere,
            env={"PYTHONPATH": str(site), "URL": empty_url, "PYTHONDONTWRITEBYTECODE": "1"},
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
    with empty.writing() as connection:
        made_before(connection, columns)
    schema.upgrade(empty)

    assert {name: rows(empty, "record")[0][name] for name in parted} == parted

    downgrade(empty, "0005")
    assert rows(empty, "record")[0]["username"] == "alice@example.test"


def made_before(connection: Connection, columns: list[str]) -> None:
    """A batch of one record with a user name, as the code of revision 0005 wrote them."""
    now = "2026-05-04 13:30:00"
    batch = {"name": "b", "environment": "d", "environment_id": "e", "state": "running", "file": "f", "total": 1}
    batch |= {"file_sha256": "s", "columns": json.dumps(columns), "rows_refused": 0, "created_at": now}
    insert_row(connection, "batch", batch | {"running_since": now})
    record = {"batch_id": 1, "row_number": 2, "environment_id": "e", "serial_number": "M1", "user_id": "u"}
    record |= {"device_id": "d", "username": "alice@example.test", "otp_type": "hotp", "has_second_otp": True}
    record |= dict.fromkeys(("otp1_posts", "otp2_posts", "not_found", "attempts", "attempts_forgiven"), 0)
    record |= {"requests": 0, "rate_limited": 0, "resynced": False, "otp1_state": "unsent", "otp2_state": "unsent"}
    insert_row(connection, "record", record | {"status": "pending", "scheduled_at": now})


def insert_row(connection: Connection, table: str, values: dict[str, Any]) -> None:
    connection.execute(text(f"INSERT INTO {table} ({', '.join(values)}) VALUES (:{', :'.join(values)})"), values)


def test_0006_does_not_go_down_while_a_seed_is_needed(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, [{"next_counter": 5}])
    with pytest.raises(RuntimeError, match="records with seeds are there"):
        downgrade(empty, "0005")
    assert schema.current(empty) == HEAD

    with empty.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.id).values(otps=None))
    downgrade(empty, "0005")
    assert schema.current(empty) == "0005"


def test_0007_keeps_every_record_up_and_down_and_up(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    make_batch(empty, [{}, {"status": Status.ACTIVE, "user_id": "", "device_id": ""}])
    before = rows(empty, "record")

    downgrade(empty, "0006")
    assert "inventory_job" not in tables(empty)
    assert set(before[0]) - set(rows(empty, "record")[0]) == {
        *("owner_id", "is_in_inventory", "import_job_id", "is_token_made", "is_device_made", "pairing", "pairings"),
        "pairing_began_at",
    }
    schema.upgrade(empty)

    assert rows(empty, "record") == without_pairing(before)
    check(empty)


@pytest.mark.parametrize("lacking", [{"user_id": ""}, {"device_id": ""}])
def test_0007_does_not_go_down_while_a_record_lacks_its_user_or_its_device(
    empty: MovingDatabase, lacking: dict[str, str]
) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, [{}, lacking])
    with pytest.raises(RuntimeError, match="whose user or device is not known yet"):
        downgrade(empty, "0006")
    assert schema.current(empty) == HEAD

    with empty.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.ids[1]).values(status=Status.CANCELLED))
    downgrade(empty, "0006")
    assert schema.current(empty) == "0006"


def test_0011_claims_nothing_of_refused_rows_of_before(
    empty: MovingDatabase,
) -> None:
    """The earlier version only counts what it refuses."""
    schema.upgrade(empty, "0010")
    with empty.writing() as connection:
        made_before(connection, ["serial", "otp1"])
        connection.execute(text("UPDATE batch SET rows_refused = 3, name = 'july'"))

    schema.upgrade(empty)

    (status,) = read_statuses(empty, "july")
    assert (status.rows_refused, status.refused, status.rows) == (3, None, 4)
    assert status.to_json()["refused"] is None
    with pytest.raises(NotKept, match="3 rows were refused"):
        export(empty, "july", io.StringIO(), status=REFUSED)
    downgrade(empty, "0010")
    assert "refused_rows" not in tables(empty)
    assert rows(empty, "batch")[0]["rows_refused"] == 3
    schema.upgrade(empty)
    check(empty)


def test_0014_counts_the_posts_of_a_new_budget_from_0_and_back(empty: MovingDatabase) -> None:
    schema.upgrade(empty, "0013")
    with empty.writing() as connection:
        made_before(connection, ["serial", "otp1"])
        connection.execute(text("UPDATE record SET otp1_posts = 3, otp2_posts = 2, posts_forgiven = 4"))

    schema.upgrade(empty)
    (record,) = rows(empty, "record")
    assert (record["otp1_posts"], record["otp2_posts"], record["posts_forgiven"]) == (1, 0, 4)

    downgrade(empty, "0013")
    (record,) = rows(empty, "record")
    assert (record["otp1_posts"], record["otp2_posts"], record["posts_forgiven"]) == (5, 0, 4)


def test_two_records_may_lack_their_device_and_none_may_share_one(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    make_batch(empty, [{"device_id": ""}] * 3)
    with pytest.raises(IntegrityError):
        make_batch(empty, [{"device_id": "device"}] * 2, name="second")
