"""The servers for tests: real, killed at will, and gone with whoever started them."""

import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
import sqlalchemy
from sqlalchemy import text
from support.processes.waiting import is_running, wait_until
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

OWNER = """
import sys, time
from support.servers.{module} import {server}

server = {server}({arguments})
server.start()
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""


def run(url: str, *statements: str) -> object:
    """The last statement's first value."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return results[-1].scalar() if results[-1].returns_rows else None
    finally:
        engine.dispose()


def test_every_database_of_a_template_is_migrated_and_its_own(postgres_server):
    migrations = []

    def migrate(url: str) -> None:
        migrations.append(url)
        run(url, "CREATE TABLE token (serial_number text)")

    for _ in range(2):
        template = postgres_server.template("with_tokens", migrate)
        with postgres_server.database(template) as url:
            assert run(url, "INSERT INTO token VALUES ('MADE0000001')", "SELECT count(*) FROM token") == 1
    assert len(migrations) == 1


def test_a_database_is_dropped_although_a_connection_is_left(postgres_server):
    with postgres_server.database() as url:
        left = psycopg.connect(url.replace("+psycopg", ""))
    with left, pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")


def test_postgres_wants_the_password(postgres_url):
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password authentication failed"):
        run(
            sqlalchemy.make_url(postgres_url).set(password="wrong").render_as_string(hide_password=False),
            "SELECT 1",
        )


def test_a_commit_survives_the_kill_of_postgres(own_postgres):
    url = own_postgres.url()
    run(url, "CREATE TABLE kept (n integer)", "INSERT INTO kept VALUES (7)")
    own_postgres.kill()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        run(url, "SELECT 1")
    own_postgres.start()
    assert run(url, "SELECT n FROM kept") == 7
    assert run(url, "SHOW fsync") == "on"


def test_a_stopped_valkey_comes_back_at_the_same_url_with_its_data(own_valkey):
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set("kept", "1")
    own_valkey.stop()
    own_valkey.start()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.get("kept") == b"1"


def test_a_killed_valkey_is_out_of_reach_until_it_is_started(own_valkey):
    own_valkey.kill()
    assert not own_valkey.answers()
    own_valkey.start()
    assert own_valkey.answers()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_valkey_is_empty_for_every_test(valkey_url, turn):
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("left over", turn)


def test_sqlite_is_a_file_of_the_test(sqlite_url, tmp_path):
    run(sqlite_url, "CREATE TABLE kept (n integer)")
    assert (tmp_path / "oathbulk.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("module", "server", "arguments"),
    [("postgres", PostgresServer, "durable=False"), ("valkey", ValkeyServer, "")],
)
def test_a_server_goes_with_the_process_that_started_it(module, server, arguments):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(module=module, server=server.__name__, arguments=arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    with owner:
        pid, directory = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(int(pid)), 15, "the server is gone")
    wait_until(lambda: not Path(directory).exists(), 15, "its directory is gone")
