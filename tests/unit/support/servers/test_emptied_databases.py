"""A database that is given to one test after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from support.servers.emptied_databases import EmptiedDatabases
from support.servers.postgres import PostgresServer


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def make(url: str) -> None:
    with connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.execute(
            "CREATE TABLE token (id serial PRIMARY KEY, serial_number text NOT NULL, lot text DEFAULT '')"
        )
        connection.execute("CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'")


@pytest.fixture
def databases(postgres_server: PostgresServer) -> Iterator[EmptiedDatabases]:
    with closing(EmptiedDatabases(postgres_server, postgres_server.template("of_tokens", make))) as databases:
        yield databases


@pytest.mark.parametrize("rows", [3, 20_000])
def test_the_next_test_gets_it_without_rows_and_with_its_first_number(databases: EmptiedDatabases, rows: int) -> None:
    with databases.database() as first, connect(first) as connection:
        connection.execute("INSERT INTO token (serial_number) SELECT 'MADE' || n FROM generate_series(1, %s) n", [rows])
        connection.execute("ANALYZE")

    with databases.database() as second, connect(second) as connection:
        assert second == first
        assert connection.execute("INSERT INTO token (serial_number) VALUES ('A') RETURNING id").fetchone() == (1,)
        assert connection.execute("SELECT count(*), min(serial_number) FROM token").fetchone() == (1, "A")
        analysed = "SELECT count(*) FROM pg_statistic WHERE starelid = 'token'::regclass"
        assert connection.execute(analysed).fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE another (id integer)",
        "ALTER TABLE token ADD COLUMN box text",
        "ALTER TABLE token ALTER COLUMN serial_number DROP NOT NULL",
        "CREATE INDEX ON token (serial_number)",
        "CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS ''",
        "CREATE OR REPLACE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 2'",
        "ALTER TABLE token ALTER COLUMN serial_number TYPE varchar(99)",
        "ALTER TABLE token ALTER COLUMN lot SET DEFAULT 'second'",
        "CREATE SCHEMA another",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 3', current_database()); END $$",
        "UPDATE alembic_version SET version_num = '0002'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
    ],
)
def test_one_in_which_more_than_rows_was_changed_goes_to_no_other_test(
    databases: EmptiedDatabases, change: str
) -> None:
    with databases.database() as first, connect(first) as connection:
        connection.execute(change.encode())

    with databases.database() as second:
        assert second != first


def test_who_is_still_connected_in_the_end_is_cut_off(databases: EmptiedDatabases) -> None:
    with databases.database() as url:
        left = connect(url)
        left.execute("BEGIN; INSERT INTO token (serial_number) VALUES ('A')")

    with left, pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")


def test_one_that_was_copied_meanwhile_is_emptied_all_the_same(
    databases: EmptiedDatabases, postgres_server: PostgresServer
) -> None:
    with databases.database() as first:
        postgres_server.cut_off(first.rpartition("/")[2])
        with postgres_server.database(first.rpartition("/")[2]):
            pass

    with databases.database() as second:
        assert second == first
