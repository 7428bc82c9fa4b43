"""What a statement costs PostgreSQL around itself: trips, and connections."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Connection, event, text
from support.servers.postgres import PostgresServer

from worker.database import schema
from worker.database.engine import Database
from worker.installation.installation import Installation

RENAME = text("UPDATE alembic_version SET version_num = :name")


def read_name(connection: Connection) -> str:
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def test_a_single_statement_is_committed_as_soon_as_it_has_run(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.writing_one() as connection:
        connection.execute(RENAME, {"name": "new"})
        with database.reading() as other:
            assert read_name(other) == "new"
    database.close()


def test_several_statements_are_committed_together_or_not_at_all(postgres_url: str) -> None:
    database = Database(postgres_url)
    # A connection that served single statements before.
    with database.writing_one() as connection:
        connection.execute(RENAME, {"name": "old"})
    try:
        with database.writing() as connection:
            connection.execute(RENAME, {"name": "new"})
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with database.reading() as connection:
        assert read_name(connection) == "old"
    database.close()


def test_connections_are_kept_however_many_threads_want_one(postgres_url: str) -> None:
    threads, connections = 8, 2
    database = Database(postgres_url, connections=connections)
    opened = list[object]()
    event.listen(database.engine, "connect", lambda *_: opened.append(1))
    ready = threading.Barrier(threads)

    def read() -> None:
        ready.wait()
        with database.reading() as connection:
            read_name(connection)

    for _ in range(3):
        with ThreadPoolExecutor(threads) as pool:
            for ended in [pool.submit(read) for _ in range(threads)]:
                ended.result()
    assert len(opened) <= connections
    database.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux notices it while something is sent")
@pytest.mark.parametrize(("said", "limit"), [("", 20_000), ("?tcp_user_timeout=7000", 7000)])
def test_a_server_that_is_gone_without_a_word_is_noticed(postgres_url: str, said: str, limit: int) -> None:
    database = Database(postgres_url + said)
    with database.reading() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as twin:
            options = [twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
            options += [twin.getsockopt(socket.IPPROTO_TCP, each) for each in (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT)]
            assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == limit
    assert options == [1, 10, 2]
    database.close()


def test_what_serves_pages_reads_at_once_after_the_server_was_restarted(own_postgres: PostgresServer) -> None:
    with own_postgres.database() as url:
        with closing(Database(url)) as first:
            schema.upgrade(first)
        database = Installation({"OATHBULK_DATABASE_URL": url}).database
        with database.reading() as connection:
            before = read_name(connection)
        own_postgres.stop()
        own_postgres.start()
        with database.reading() as connection:
            assert read_name(connection) == before
        database.close()
