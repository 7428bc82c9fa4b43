"""PostgreSQL as others set it up: their defaults, a standby, a server with few connections or low limits; and what a
statement costs it around itself, trips and connections."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import NOWHERE, CommandDesk
from support.processes.waiting import wait_until
from support.servers.postgres import KEEPER, PostgresServer

from migrations import HEAD
from models.encrypted import generate_key
from worker.database import schema
from worker.database.engine import Database
from worker.database.errors import explain, is_away
from worker.database.postgresql import OtherEncoding
from worker.installation.installation import Installation
from worker.process.parts import Parts
from worker.process.worker_parts import find_fault

RENAME = text("UPDATE schema_revision SET version_num = :name")


@contextmanager
def opened(url: str, *, connections: int = 2, patience: float = 0.0) -> Iterator[Database]:
    with closing(Database(url, connections=connections, connect_within=patience)) as database:
        yield database


def shown(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def read_name(connection: Connection) -> str:
    return str(connection.execute(text("SELECT version_num FROM schema_revision")).scalar_one())


def set_for_database(server: PostgresServer, url: str, name: str, value: str) -> None:
    """As an administrator does, for every session that begins from now on."""
    server.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET {name} = '{value}'")


def takes_writes(database: Database) -> bool:
    try:
        with database.writing_one() as connection:
            connection.execute(RENAME, {"name": HEAD})
    except DBAPIError as error:
        if not is_away(error):
            raise
        return False
    return True


def in_force(database: Database, name: str) -> list[str]:
    """In a statement alone, in a transaction that writes and in one that reads."""
    found = []
    for enter in (database.writing_one, database.writing, database.reading):
        with enter() as connection:
            found.append(shown(connection, name))
    return found


@pytest.mark.parametrize(
    ("name", "default", "said", "expected"),
    [
        ("synchronous_commit", "off", "", "on"),
        ("synchronous_commit", "local", "", "on"),
        ("synchronous_commit", "remote_apply", "", "remote_apply"),
        ("synchronous_commit", "on", "?options=-c%20synchronous_commit%3Dlocal", "local"),
        ("synchronous_commit", "off", "?options=-c%20synchronous_commit%3Dremote_write", "remote_write"),
        ("synchronous_commit", "on", "?options=-c%20synchronous_commit%3Doff", "on"),
        ("default_transaction_isolation", "serializable", "", "read committed"),
        ("statement_timeout", "9s", "?options=-c%20statement_timeout%3D7s", "7s"),
    ],
)
def test_commits_are_durable_and_read_committed_whatever_the_default_is_and_what_else_the_url_asks_stays(
    postgres_server: PostgresServer, postgres_url: str, name: str, default: str, said: str, expected: str
) -> None:
    set_for_database(postgres_server, postgres_url, name, default)
    with opened(postgres_url + said) as database:
        assert in_force(database, name.removeprefix("default_")) == [expected] * 3


def test_a_connection_is_looked_at_once_and_not_at_every_transaction(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    set_for_database(postgres_server, postgres_url, "synchronous_commit", "off")
    with opened(postgres_url, connections=1) as database:
        with database.writing_one() as connection:
            connection.execute(RENAME, {"name": HEAD})
            driver = connection.connection.driver_connection
        # A setting that the next transaction would put right again, if it looked.
        driver.execute("SET synchronous_commit = 'local'")
        assert in_force(database, "synchronous_commit") == ["local"] * 3


@pytest.mark.parametrize(("said", "threshold"), [("0", 0), ("3", 3), ("none", None)])
def test_a_url_says_when_statements_are_prepared(postgres_url: str, said: str, threshold: int | None) -> None:
    with opened(f"{postgres_url}?prepare_threshold={said}") as database, database.reading() as connection:
        assert connection.connection.driver_connection.prepare_threshold == threshold


def test_a_single_statement_is_committed_as_soon_as_it_has_run_and_several_together_or_not_at_all(
    postgres_url: str,
) -> None:
    with opened(postgres_url) as database:
        with database.writing_one() as connection:
            connection.execute(RENAME, {"name": "old"})
            with database.reading() as other:
                assert read_name(other) == "old"
        # On a connection that served single statements before.
        with suppress(ZeroDivisionError), database.writing() as connection:
            connection.execute(RENAME, {"name": "new"})
            raise ZeroDivisionError
        with database.reading() as connection:
            assert read_name(connection) == "old"


# A failover.


def make_read_only(server: PostgresServer, is_read_only: bool) -> None:
    """As a cloud does with a former primary: sessions stay, and their writes are refused."""
    server.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if is_read_only else 'off'}")
    server.execute("SELECT pg_reload_conf()")


def is_read_only(database: Database) -> bool:
    with database.reading() as connection:
        return shown(connection, "transaction_read_only") == "on"


def test_no_connection_to_a_former_primary_stays(own_postgres: PostgresServer, migrate: Callable[[str], None]) -> None:
    def connected() -> set[object]:
        with database.reading() as one, database.reading() as other:
            return {one.connection.driver_connection, other.connection.driver_connection}

    migrate(own_postgres.url())
    with opened(own_postgres.url()) as database:
        before = connected()
        make_read_only(own_postgres, True)
        wait_until(lambda: is_read_only(database), "the sessions have heard of it")
        assert not takes_writes(database)
        # Nor is a new one opened there, not even to read: a stale answer would pass for the truth.
        with pytest.raises(OperationalError, match="read-only"):
            is_read_only(database)
        make_read_only(own_postgres, False)
        wait_until(lambda: takes_writes(database), "the primary takes writes again")
        assert not before & connected()


def test_a_standby_is_refused_but_where_the_url_asks_for_it_and_a_worker_that_starts_is_told_so(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    set_for_database(postgres_server, postgres_url, "default_transaction_read_only", "on")
    with opened(postgres_url) as primary, opened(postgres_url + "?target_session_attrs=any") as either:
        with pytest.raises(OperationalError, match="read-only"):
            is_read_only(primary)
        assert is_read_only(either)
        for database in (primary, either):
            assert find_fault(database).startswith("the database does not accept writes")


READING = (
    "status",
    "status july",
    "show ACME00001",
    "show ACME",
    "export july -o export.csv",
    "report july -o july.html",
    "audit",
    "metrics --once",
    "check other.csv --offline",
)
WRITING = (
    "load other.csv --offline",
    "run other.csv --offline",
    "pause july",
    "cancel july",
    "purge --person ann --yes",
)


def test_a_command_and_a_worker_end_there_with_one_line_and_where_the_url_asks_for_it_what_only_reads_works(
    postgres_server: PostgresServer, postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    variables = {"OATHBULK_REDIS_URL": valkey_url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
    with CommandDesk(tmp_path / "desk", NOWHERE, variables | {"OATHBULK_DATABASE_URL": postgres_url}) as desk:
        for name, prefix in (("july.csv", "ACME"), ("other.csv", "OTHER")):
            write_shipment(desk.folder / name, make_tokens(3, prefix=prefix))
        assert desk.oathbulk("load", "july.csv", "--offline").code == 0
        set_for_database(postgres_server, postgres_url, "default_transaction_read_only", "on")
        worker = desk.start_program(sys.executable, "-m", "celery", "-A", "worker", "worker").wait()
        for told in (desk.oathbulk("status"), desk.oathbulk("db", "upgrade"), worker):
            last = told.stderr.splitlines()[-1]
            assert (told.code, "Traceback" in told.stderr) == (3, False), told
            assert last.startswith("oathbulk: the database does not accept writes"), told
            assert "name the primary, or all servers, in OATHBULK_DATABASE_URL" in last

        either = {"OATHBULK_DATABASE_URL": f"{postgres_url}?target_session_attrs=any"}
        for command in READING:
            told = desk.oathbulk(*command.split(), **either)
            assert told.code == 0, (command, told.stderr)
        for command in WRITING:
            told = desk.oathbulk(*command.split(), **either)
            assert told.code == 3, (command, told)
            assert "oathbulk: the database does not accept writes (" in told.stderr.splitlines()[-1]
        for url, told in (({}, "name the primary"), (either, "the database does not accept writes")):
            checks = desk.oathbulk("doctor", "--json", **url).json["checks"]
            (database,) = [each for each in checks if each["check"] == "database"]
            assert (database["state"], told in f"{database['detail']} {database['cure']}") == ("fault", True)


def test_a_server_that_ends_a_connection_costs_one_failure_and_not_one_a_connection(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with opened(postgres_url, connections=3) as database:
        with database.reading() as one, database.reading() as two, database.reading() as three:
            pids = [each.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for each in (one, two, three)]
        for pid in pids:
            postgres_server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        assert [takes_writes(database) for _ in range(4)] == [False, True, True, True]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux notices it while something is sent")
@pytest.mark.parametrize(("said", "limit"), [("", 20_000), ("?tcp_user_timeout=7000", 7000)])
def test_a_server_that_is_gone_without_a_word_is_noticed(postgres_url: str, said: str, limit: int) -> None:
    with opened(postgres_url + said) as database, database.reading() as connection:
        driver = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as twin:
            options = [twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
            tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            options += [twin.getsockopt(socket.IPPROTO_TCP, each) for each in tcp]
    assert options == [1, 10, 2, limit]


def test_what_serves_pages_reads_at_once_after_the_server_ended_its_connection(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with closing(Installation({"OATHBULK_DATABASE_URL": postgres_url}).database) as database:
        with database.reading() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        postgres_server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        with database.reading() as connection:
            assert read_name(connection) == HEAD


# Few connections.


@pytest.fixture
def crowded_url(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A database to which a role may open one connection."""
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute("CREATE ROLE few LOGIN PASSWORD 'x' CONNECTION LIMIT 1 IN ROLE pg_read_all_data")
    postgres_server.execute(f"GRANT ALL ON DATABASE {database} TO few")
    yield f"postgresql+psycopg://few:x@127.0.0.1:{postgres_server.port}/{database}"
    postgres_server.execute(f"REVOKE ALL ON DATABASE {database} FROM few")
    postgres_server.execute("DROP ROLE few")


@pytest.mark.parametrize("patience", [0.0, 0.5], ids=["worker", "command"])
def test_who_gets_no_connection_takes_the_database_for_away_and_does_not_ask_for_ever(
    crowded_url: str, patience: float
) -> None:
    with opened(crowded_url) as first, opened(crowded_url, patience=patience) as second, first.reading() as connection:
        shown(connection, "timezone")
        with pytest.raises(OperationalError, match="too many connections") as refused, second.reading():
            pass
        assert is_away(refused.value)


def test_a_command_that_gets_no_connection_asks_again_for_a_while(crowded_url: str) -> None:
    with opened(crowded_url) as first, opened(crowded_url, patience=60) as second:
        with first.reading() as connection:
            shown(connection, "timezone")
        leaving = threading.Timer(0.5, first.close)
        leaving.start()
        with second.reading() as connection:
            assert shown(connection, "timezone")
        leaving.join()


@pytest.mark.parametrize("words", ["status", "metrics --once"])
def test_a_command_needs_one_connection(crowded_url: str, tmp_path: Path, words: str) -> None:
    with CommandDesk(tmp_path / "desk", NOWHERE, {"OATHBULK_DATABASE_URL": crowded_url}) as desk:
        told = desk.oathbulk(*words.split())
    assert told.code == 0, told.stderr


# Those to this database, but for the one that asks and the keeper's.
OTHER_CONNECTIONS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND pid <> pg_backend_pid() AND application_name <> :keeper"""


def test_workers_and_commands_open_no_more_connections_than_the_setting_says_and_keep_them(
    postgres_url: str, tmp_path: Path
) -> None:
    variables = {"OATHBULK_DATABASE_URL": postgres_url, "OATHBULK_DATABASE_CONNECTIONS": "3"}
    installation = Installation(variables | {"OATHBULK_HOME": str(tmp_path)})
    for each in (installation.database, Parts(installation.settings).database):
        with closing(each) as database:
            with ExitStack() as held:
                for _ in range(3):
                    held.enter_context(database.reading())
                asking = threading.Thread(target=takes_writes, args=(database,))
                asking.start()
                # A fourth connection would be there by then.
                asking.join(0.5)
                assert asking.is_alive()
            asking.join()
            # All three are back by now, and stay open for whoever comes next.
            with opened(postgres_url, connections=1) as one, one.reading() as connection:
                assert connection.scalar(text(OTHER_CONNECTIONS), {"keeper": KEEPER}) == 3


# What an administrator may have made of the database, of the role and of its limits.


@contextmanager
def made_database(server: PostgresServer, how: str = "") -> Iterator[str]:
    """The URL of an empty database, made in this way."""
    server.execute(f"CREATE DATABASE elsewhere TEMPLATE template0 {how}")
    try:
        yield server.url("elsewhere")
    finally:
        server.execute("DROP DATABASE elsewhere WITH (FORCE)")


@contextmanager
def role(server: PostgresServer, url: str) -> Iterator[str]:
    """The URL of the same database for a role that owns nothing."""
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        yield url.replace(url.partition("://")[2].partition("@")[0], "guest:guest")
    finally:
        server.execute("DROP ROLE guest")


def fail_to_migrate(url: str) -> str:
    """What a person is told who runs `oathbulk db upgrade` there, which must fail."""
    with opened(url) as database, pytest.raises(DBAPIError) as failed:
        schema.upgrade(database)
    return str(explain(failed.value))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_another_encoding_is_refused_with_its_cure(postgres_server: PostgresServer, encoding: str) -> None:
    how = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    with made_database(postgres_server, how) as url, opened(url) as database:
        with pytest.raises(OtherEncoding, match=f"is {encoding}, not UTF8: create another one") as refused:
            schema.upgrade(database)
        assert find_fault(database) == str(refused.value)
        assert not is_away(refused.value)


@pytest.mark.parametrize(
    "collation", ["LC_COLLATE 'C' LC_CTYPE 'C'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", "LOCALE 'C.utf8'"]
)
def test_any_collation_will_do(postgres_server: PostgresServer, collation: str) -> None:
    with made_database(postgres_server, f"ENCODING 'UTF8' {collation}") as url, opened(url) as database:
        assert schema.upgrade(database) == HEAD
        assert find_fault(database) is None


def test_every_name_gets_through_whatever_the_roles_encoding_is(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    set_for_database(postgres_server, postgres_url, "client_encoding", "latin1")
    with opened(postgres_url) as database, database.reading() as connection:
        assert connection.scalar(text("SELECT CAST(:name AS TEXT)"), {"name": "Łódź 東京"}) == "Łódź 東京"


def test_a_schema_of_ones_own_is_found_by_search_path(postgres_server: PostgresServer) -> None:
    with made_database(postgres_server) as url:
        set_for_database(postgres_server, url, "search_path", "oathbulk")
        assert "CREATE SCHEMA oathbulk" in fail_to_migrate(url)
        postgres_server.execute("CREATE SCHEMA oathbulk", "elsewhere")
        with opened(url) as database:
            # The second time, it finds what it made the first.
            assert [schema.upgrade(database) for _ in range(2)] == [HEAD, HEAD]
            with database.reading() as connection:
                found = text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'record'")
                assert connection.scalars(found).all() == ["oathbulk"]


def test_a_role_that_may_make_or_read_no_table_is_told_which_right_it_lacks(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with made_database(postgres_server) as url, role(postgres_server, url) as guest:
        told = fail_to_migrate(guest)
    assert "(permission denied for schema public)" in told
    assert "GRANT USAGE, CREATE ON SCHEMA public" in told
    with role(postgres_server, postgres_url) as guest, opened(guest) as database:
        told = find_fault(database)
    assert told.startswith("the database role lacks a privilege (permission denied for table schema_revision)")


def read_pid(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def outlast(server: PostgresServer, connection: Connection, name: str) -> None:
    """Do what takes longer than this limit allows."""
    if name.startswith("idle"):
        pid = read_pid(connection)
        wait_until(lambda: is_ended(server, pid), "its session is ended")
    connection.execute(RENAME, {"name": HEAD})
    connection.exec_driver_sql("SELECT pg_sleep(60)")


def is_ended(server: PostgresServer, pid: int) -> bool:
    with psycopg.connect(server.url().replace("+psycopg", "")) as connection:
        return not connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall()


@pytest.mark.parametrize(
    "name", ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "lock_timeout"]
)
def test_a_limit_that_ends_a_statement_is_named_and_waited_out(
    postgres_server: PostgresServer, postgres_url: str, name: str
) -> None:
    set_for_database(postgres_server, postgres_url, name, "200ms")
    with opened(postgres_url) as database, ExitStack() as held:
        if name == "lock_timeout":
            held.enter_context(database.writing()).execute(RENAME, {"name": HEAD})
        with pytest.raises(DBAPIError) as ended, database.writing() as connection:
            outlast(postgres_server, connection, name)
        told = "lock timeout" if name == "lock_timeout" else f"raise {name} for this role"
        assert told in str(explain(ended.value))
        assert is_away(ended.value)
        held.close()
        wait_until(lambda: takes_writes(database), "it takes writes again")


def test_a_session_that_is_ended_between_two_uses_is_one_that_is_away(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    set_for_database(postgres_server, postgres_url, "idle_session_timeout", "200ms")
    with opened(postgres_url, connections=1) as database:
        with database.reading() as connection:
            pid = read_pid(connection)
        wait_until(lambda: is_ended(postgres_server, pid), "its session is ended")
        assert not takes_writes(database)
        wait_until(lambda: takes_writes(database), "it takes writes again")


def test_a_worker_that_starts_needs_the_schema_of_its_version_or_a_later_one_and_waits_for_a_server(
    postgres_server: PostgresServer,
) -> None:
    with opened("postgresql+psycopg://nobody:x@127.0.0.1:1/none") as database:
        assert find_fault(database) is None
    with made_database(postgres_server) as url, opened(url) as database:
        assert find_fault(database) == "the database is empty: run `oathbulk db upgrade`"
        schema.upgrade(database)
        older = f"the database is at revision 0000, not {HEAD}: run `oathbulk db upgrade`"
        for revision, told in (("0000", older), ("9999", None)):
            with database.writing() as connection:
                connection.execute(RENAME, {"name": revision})
            assert find_fault(database) == told
