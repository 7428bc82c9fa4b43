"""What a fault of the tests' own servers and processes would hide: what leaks from one test to the next, what outlives
its tests, and a stand-in that lets pass what it has to convict."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.processes.program import Forked
from support.processes.waiting import is_running, wait_until
from support.servers.postgres import EmptiedDatabases, PostgresServer
from support.servers.stand_in_box import BoxTenant, hotp, judge_tenant, make_tokens


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def make(url: str) -> None:
    with connect(url) as connection:
        connection.execute(
            """CREATE TABLE alembic_version (version_num text);
               INSERT INTO alembic_version VALUES ('0001');
               CREATE TABLE token (id serial PRIMARY KEY, serial_number text NOT NULL, lot text DEFAULT '');
               CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'"""
        )


@pytest.fixture
def databases(postgres_server: PostgresServer) -> Iterator[EmptiedDatabases]:
    with closing(EmptiedDatabases(postgres_server, postgres_server.template("of_tokens", make))) as databases:
        yield databases


@pytest.mark.parametrize("rows", [3, 20_000])
def test_the_next_test_gets_a_database_without_rows_and_with_its_first_number(
    databases: EmptiedDatabases, rows: int
) -> None:
    with databases.database() as first:
        # It is cut off in the end, with what it has not committed.
        left = connect(first)
        left.execute("INSERT INTO token (serial_number) SELECT 'MADE' || n FROM generate_series(1, %s) n", [rows])
        left.execute("ANALYZE")
        left.execute("BEGIN; INSERT INTO token (serial_number) VALUES ('A')")
    with databases.database() as second, connect(second) as connection, closing(left):
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
        "CREATE INDEX ON token (serial_number)",
        "CREATE OR REPLACE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 2'",
        "ALTER TABLE token ALTER COLUMN lot SET DEFAULT 'second'",
        "CREATE SCHEMA another",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 3', current_database()); END $$",
        "UPDATE alembic_version SET version_num = '0002'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
    ],
)
def test_a_database_in_which_more_than_rows_was_changed_goes_to_no_other_test(
    databases: EmptiedDatabases, change: str
) -> None:
    with databases.database() as first, connect(first) as connection:
        connection.execute(change.encode())
    with databases.database() as second:
        assert second != first


OWNER = """
import time
from support.servers.valkey import ValkeyServer
server = ValkeyServer()
server.start()
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""


def test_a_server_goes_with_the_process_that_started_it() -> None:
    path = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=path) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(int(pid)), 15, "the server is gone")
    wait_until(lambda: not Path(directory).exists(), 15, "its directory is gone")


def test_what_takes_long_is_imported_already_by_the_process_that_forks(tmp_path: Path) -> None:
    """It passes over what it cannot import, and each program would be slow again."""
    (tmp_path / "told.py").write_text("import gc, sys; print('celery.bin.worker' in sys.modules, gc.isenabled())")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    assert Forked("told", [], env, tmp_path, tmp_path / "stdout", tmp_path / "stderr").wait(30) == 0
    assert (tmp_path / "stdout").read_text() == "True True\n"


@pytest.fixture
def tenant() -> BoxTenant:
    return BoxTenant(make_tokens(2))


def start_import(tenant: BoxTenant, serial: str) -> None:
    token = tenant.tokens[serial]
    tenant.start_import([{"serialNumber": serial, "secret": token.secret.hex(), "hotp": {"counter": token.counter}}])


def pair(tenant: BoxTenant, serial: str, whose: str = "") -> Any:
    """Import a token and pair it, with its own person or that of another token: the device's id."""
    start_import(tenant, serial)
    _, body = tenant.pair(tenant.tokens[whose or serial].person.id, serial)
    return body["id"]


def activate(tenant: BoxTenant, serial: str, device_id: str, counter: int, *, resync: bool = False) -> int:
    token = tenant.tokens[serial]
    return tenant.activate(token.person.id, device_id, hotp(token.secret, counter), resync=resync)[0]


def test_at_the_stand_in_a_token_in_step_takes_one_otp_and_one_out_of_step_two(tenant: BoxTenant) -> None:
    behind, in_step = tenant.tokens
    assert activate(tenant, in_step, pair(tenant, in_step), 100) == 200
    device_id = pair(tenant, behind)
    assert activate(tenant, behind, device_id, 100) == 400
    assert activate(tenant, behind, device_id, 101, resync=True) == 200
    assert tenant.active == {behind, in_step}
    assert list(judge_tenant(tenant)) == []


def test_the_stand_in_convicts_what_is_asked_for_again_and_what_is_to_be_removed(tenant: BoxTenant) -> None:
    serial, _ = tenant.tokens
    device_id = pair(tenant, serial)
    pair(tenant, serial)
    assert [activate(tenant, serial, device_id, 100) for _ in range(2)] == [400, 400]
    tenant.refuse_to_remove("/users/u/devices/")
    again = [f"{serial}: imported again", f"{serial}: paired again", "DELETE /users/u/devices/"]
    otps = [f"{serial}: one OTP came 2 times", f"{serial}: its counters came as [100, 100]"]
    assert list(judge_tenant(tenant)) == again + otps


def test_the_stand_in_convicts_a_pairing_with_another_person(tenant: BoxTenant) -> None:
    serial, other = tenant.tokens
    pair(tenant, serial, whose=other)
    assert list(judge_tenant(tenant)) == [f"{serial}: paired with a person who is not to get it"]
