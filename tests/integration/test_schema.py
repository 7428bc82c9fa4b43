"""The schema: made by the migrations, brought up to date beside workers of the version before, and back, on both
databases. A next version stands in for what comes after: this one with a migration that only the tests have.

Expand, then contract: what this version's workers say to the database is recorded, a small batch from its load to a
person's commands, and said again while the schema changes. That shows that each statement still does what it did. It
does not show what statements of both versions do to each other at one moment; `acceptance/test_promises.py` lets a
fleet of processes work meanwhile."""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, count, enqueue, make_batch
from support.data.calls import called
from support.data.moving_clock import MovingDatabase
from support.data.next_version import NEXT, configure_next, move_schema, start_upgrade, write_next_version
from support.data.recorded_statements import record, say
from support.processes.waiting import wait_until

from migrations import HEAD, VERSION_TABLE
from models.attempt import AttemptLine
from models.audit import Action
from models.base import Base
from models.record import Record
from models.record_states import Status
from worker import audit
from worker.config.settings import ConfigError
from worker.database import schema
from worker.database.engine import AUDIT_LOCK, Database
from worker.installation import installation
from worker.installation.installation import Installation
from worker.leases.lease import Leases
from worker.reports.facts import read_statuses
from worker.rules.steps import Active

TABLES = {
    *(
        "batch",
        "record",
        "refused_rows",
        "attempt",
        "change",
        "audit",
        "pace",
        "process",
        "tenant_fact",
        "installation",
        "inventory_job",
    ),
}
# Those that workers and people write into all the time.
BUSY = ("batch", "record", "attempt", "audit")

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
    return set(inspect(database.engine).get_table_names()) - {VERSION_TABLE}


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
    return {re.sub(r"\s+", " ", line) for line in found if VERSION_TABLE not in line}


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

    move_schema(empty, "base")
    with empty.writing() as connection:
        Base.metadata.create_all(connection)
    assert definitions(empty) == migrated


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of this process brings the schema to that of the next version."""
    monkeypatch.setattr(schema, "configure", configure_next)
    for module in (schema, installation):
        monkeypatch.setattr(module, "HEAD", NEXT)


def test_data_goes_through_a_migration_and_back_and_the_audit_stays_append_only(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    made = make_batch(empty, [{}, {"status": Status.ACTIVE}, {"status": Status.DEAD_LETTER}])
    enqueue(empty, made)
    leases = Leases(empty)
    claimed = leases.claim(made.ids[0], ENVIRONMENT_ID)
    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), called(1))
    write_down(empty)
    before, kept = definitions(empty) | triggers(empty), {table: rows(empty, table) for table in BUSY}

    move_schema(empty, NEXT)
    assert definitions(empty) | triggers(empty) > before
    write_down(empty, "written under the next version")
    assert refuses_changes(empty)
    for table, lines in kept.items():
        changed = rows(empty, table)
        assert [line | new for line, new in zip(lines, changed, strict=False)] == changed[: len(lines)]

    move_schema(empty, HEAD)
    assert definitions(empty) | triggers(empty) == before
    assert {table: rows(empty, table)[: len(lines)] for table, lines in kept.items()} == kept
    assert refuses_changes(empty)
    with empty.reading_snapshot() as connection:
        assert audit.check(connection) == audit.CheckResult(2)
    if empty.is_sqlite:
        assert read(empty, "PRAGMA foreign_key_check") == set()


def refuses_changes(database: MovingDatabase, *more: str) -> bool:
    for change in ("UPDATE audit SET actor = 'somebody else'", "DELETE FROM audit", *more):
        with pytest.raises(DBAPIError, match="append-only"):
            execute(database, change)
    return True


def test_the_database_itself_refuses_to_change_the_audit(database: MovingDatabase) -> None:
    write_down(database, "first")
    write_down(database, "second")
    before = rows(database, "audit")

    replace = "REPLACE INTO audit SELECT id, at, 'somebody else', action, batch, ticket, facts, hash FROM audit"
    upsert = "INSERT INTO audit SELECT * FROM audit WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'"
    one_line = "UPDATE audit SET hash = hash WHERE id = 1", "DELETE FROM audit WHERE id = 2"
    assert refuses_changes(database, *one_line, upsert, replace if database.is_sqlite else "TRUNCATE audit")

    assert rows(database, "audit") == before
    write_down(database, "third")
    assert [line["id"] for line in rows(database, "audit")] == [1, 2, 3]


@pytest.mark.usefixtures("next_version")
def test_a_command_that_is_about_to_write_its_line_and_an_upgrade_do_not_wait_for_each_other(
    empty: MovingDatabase,
) -> None:
    schema.upgrade(empty, HEAD)

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
        assert upgraded.result(timeout=60) == NEXT

    assert [(line["action"], line["batch"]) for line in rows(empty, "audit")] == [("db upgrade", None)]


@pytest.mark.usefixtures("next_version")
def test_an_upgrade_that_waits_for_a_worker_that_waits_for_it_is_made_again(postgres_url: str) -> None:
    # PostgreSQL ends the one who has waited for this long and finds that the other waits for it, too.
    url = f"{postgres_url}?options=-c%20deadlock_timeout%3D3s"
    with closing(MovingDatabase(url)) as database, ThreadPoolExecutor(1) as threads:
        with database.writing() as worker:
            worker.exec_driver_sql("SELECT count(*) FROM record")
            worker.exec_driver_sql("SET LOCAL deadlock_timeout = '5min'")
            upgraded = threads.submit(schema.upgrade, database)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'record'::regclass"
            wait_until(lambda: worker.exec_driver_sql(waits).scalar_one() > 0, "the upgrade waits")
            # Answered only once the upgrade has let go of this table.
            assert worker.exec_driver_sql("SELECT count(*) FROM batch").scalar_one() == 0
        assert upgraded.result(timeout=60) == NEXT


@pytest.mark.usefixtures("next_version")
def test_an_upgrade_tells_what_it_changed_nothing_where_nothing_changed_and_is_none_if_it_cannot_be_written_down(
    empty: MovingDatabase,
) -> None:
    changes = list[tuple[str, str]]()

    def note(_: Connection, before: str, after: str) -> None:
        changes.append((before, after))
        if len(changes) == 1:
            raise ConfigError("no key")

    schema.upgrade(empty, HEAD, note)
    assert changes == []
    with pytest.raises(ConfigError):
        schema.upgrade(empty, on_change=note)
    assert schema.current(empty) == HEAD
    schema.upgrade(empty, on_change=note)
    schema.upgrade(empty, on_change=note)

    assert changes == [(HEAD, NEXT)] * 2


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
    older = f"^the database is at revision 0000, not {HEAD}: run `oathbulk db upgrade`$"
    both = (schema.ensure_current, schema.upgrade)
    for revision, told, acts in (("9999", later, both), ("0000", older, both[:1])):
        execute(empty, f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
        for act in acts:
            with pytest.raises(schema.SchemaOutdated, match=told):
                act(empty)
        assert schema.current(empty) == revision


def test_a_database_of_an_unreleased_version_is_refused_and_left_as_it_is(empty: MovingDatabase) -> None:
    schema.upgrade(empty)
    # So Alembic calls the table by itself.
    execute(empty, f"ALTER TABLE {VERSION_TABLE} RENAME TO alembic_version")
    before = definitions(empty)
    for act in (schema.ensure_current, schema.upgrade):
        with pytest.raises(schema.SchemaOutdated, match=r"^this database was made before the first release"):
            act(empty)
    assert definitions(empty) == before


@pytest.mark.usefixtures("next_version")
def test_the_embedded_database_of_an_earlier_version_is_brought_up_to_date_unasked(tmp_path: Path) -> None:
    here = Installation({"OATHBULK_HOME": str(tmp_path)}, makes_home=True)
    move_schema(here.database, HEAD)
    here.database.close()

    with closing(Installation({"OATHBULK_HOME": str(tmp_path), "OATHBULK_ACTOR": "alice"}).database) as later:
        assert schema.current(later) == NEXT
        (line,) = rows(later, "audit")
    assert (line["actor"], line["action"], line["batch"]) == ("alice", "db upgrade", None)


@pytest.mark.parametrize("before", [None, HEAD], ids=["empty", "of the version before"])
def test_an_installed_version_upgrades_and_two_at_once_are_one(
    empty: MovingDatabase, before: str | None, tmp_path: Path
) -> None:
    """Without a checkout or an alembic.ini, and from a directory whose name ConfigParser could misread."""
    if before:
        schema.upgrade(empty)
        make_batch(empty, 3)
    site = tmp_path / "50% site-packages"
    write_next_version(site)
    url = empty.engine.url.render_as_string(hide_password=False)

    processes = [start_upgrade(site, url) for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], ends
    assert [out.strip() for out, _ in ends] == [NEXT] * 2
    assert tables(empty) == {*TABLES, "approval"}
    assert count(empty, Record) == (3 if before else 0)


def state(database: MovingDatabase) -> list[Any]:
    """How every record stands, and its history."""
    columns = (Record.status, Record.reason, Record.attempts, Record.otp1_state, Record.otp1_posts, Record.otp2_posts)
    lines = (AttemptLine.record_id, AttemptLine.number, AttemptLine.outcome, AttemptLine.reason)
    history = database.rows(select(*lines).order_by(AttemptLine.id))
    return [*database.rows(select(*columns).order_by(Record.id)), *history]


def test_old_workers_go_on_beside_the_new_schema_and_back_and_new_ones_finish(make_empty: MakeDatabase) -> None:
    control, database = make_empty(), make_empty()
    for each in (control, database):
        schema.upgrade(each)
    said = record(control)
    # Some records are in old workers' hands, others in the queue.
    half = next(number for number, one in enumerate(said) if one["sql"].startswith("INSERT INTO attempt"))

    say(database, said[:half])
    move_schema(database, NEXT)
    say(database, said[half : 2 * half])
    move_schema(database, HEAD)
    say(database, said[2 * half :])

    assert state(database) == state(control)
    assert {row.status for row in state(control) if hasattr(row, "status")} == {"active", "dead_letter", "pending"}
    move_schema(database, NEXT)
    finish(database)
    (status,) = read_statuses(database, "shipment")
    assert (status.state, status.to_do, status.total) == ("finished", 0, sum(status.counts.values()))


def finish(database: MovingDatabase) -> None:
    """What the new version's workers do with what is left."""
    database.ahead = 1000.0
    leases = Leases(database)
    left = enqueue(database, Made(1, "shipment", []))
    assert left
    for record_id in left:
        claim = leases.claim(record_id, "environment")
        progress = claim.progress.with_device_waiting().with_otp_sent(1).with_otp_answered(1)
        assert leases.settle(claim, progress, Active(), called(requests=1))
