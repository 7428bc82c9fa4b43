"""Makes the engine for SQLite, and recognizes errors of its disk."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

# Seconds that a connection waits for another process's write transaction to end.
_LOCK_TIMEOUT = 30


def make_engine(url: str) -> Engine:
    """Make the engine: every transaction says whether it writes, and a commit survives a power cut."""
    engine = create_engine(url, connect_args={"timeout": _LOCK_TIMEOUT}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions by itself: it does so at the first statement, and does not know whether
        # the transaction is going to write.
        connection.isolation_level = None
        # secure_delete: what is changed or removed is overwritten with zeros. Otherwise OTPs and seeds that were
        # erased, or encrypted with another key, stay in the file, except where SQLite was built with this on.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # BEGIN IMMEDIATE, because a transaction that reads first and writes later would fail if another has written in
        # between.
        immediate = connection.get_execution_options().get("begins_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def is_refused_by_disk(error: DBAPIError) -> bool:
    """Whether this error of SQLite means that its disk is full, read-only or broken."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    # The lowest byte is the kind of error, the bytes above it say more exactly which: https://www.sqlite.org/rescode.html
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
