"""The database: its engine, transactions for reading and for writing, locks, and its clock, the only one for leases."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    literal_column,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from migrations import VERSION_TABLE
from models.base import UtcDateTime
from worker.database import postgresql
from worker.database.errors import is_refused_by_disk

# A point in time in SQL: an expression or a column.
Moment: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]

# Numbers of advisory locks in PostgreSQL, from a range of our own.
# One tick of the dispatcher, or other change of many records, at a time.
DISPATCH_LOCK = 0x0A7B_0001
# One load, or one command that makes final records due again, at a time: both may concern the same tokens.
LOAD_LOCK = 0x0A7B_0002
# One migration at a time.
SCHEMA_LOCK = 0x0A7B_0003
# One writer of the audit at a time, since each line has the hash of the one before.
AUDIT_LOCK = 0x0A7B_0004
# One worker process at a time that stops taking work because it fails alone: it has to find another that is well.
PROCESS_LOCK = 0x0A7B_0005

# The execution option of a connection that says what is called after its transaction.
_AFTER_COMMIT = "oathbulk_after_commit"

# Seconds that a connection waits for another process's write transaction to end, in SQLite.
_LOCK_TIMEOUT = 30
# The format of a time in SQLite, for strftime: text that sorts by time, and that SQLAlchemy reads back.
_SQLITE_TIME = "%Y-%m-%d %H:%M:%f000"


class Database:
    """A PostgreSQL or SQLite database. Thread-safe; a process has one."""

    def __init__(
        self, url: str, *, connections: int = 4, connect_within: float = 0.0, checks_connections: bool = False
    ) -> None:
        """`connections`: how many this process opens to PostgreSQL at most; threads wait until one is free.
        `connect_within`: seconds for which connecting is tried again while PostgreSQL has no connection left.
        `checks_connections`: before a connection is used again, PostgreSQL is asked whether it still stands."""
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = (
            _make_sqlite_engine(url)
            if self.is_sqlite
            else postgresql.make_engine(url, connections, connect_within, checks_connections=checks_connections)
        )
        # On PostgreSQL each statement commits by itself unless an isolation level asks for a transaction.
        in_transaction = {} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reads = self.engine.execution_options(**in_transaction)
        self._writes = self._reads.execution_options(begins_immediate=True)
        # SQLite has one writer at a time. The threads of a process wait here for their turn, instead of trying the
        # file's lock again and again.
        self._writer: AbstractContextManager[Any] = threading.Lock() if self.is_sqlite else nullcontext()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection for a transaction that writes nothing."""
        return self._reads.connect()

    @contextmanager
    def reading_snapshot(self) -> Iterator[Connection]:
        """A connection on which all statements see the database as it was at the first of them."""
        with self.reading() as connection:
            # SQLite's transactions are snapshots by themselves.
            yield connection if self.is_sqlite else connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits durably at its end; afterwards the calls that `after_commit` was given are
        made."""
        with self._writer, self._writes.connect() as connection, connection.begin():
            yield connection
        _call_after_commit(connection)

    def writing_one(self) -> AbstractContextManager[Connection]:
        """A connection for a single statement, which commits with it, just as durably as `writing`.

        PostgreSQL commits a single statement by itself, so that BEGIN and COMMIT need no trips to it. They are sent
        only where `needs_transaction` says so.
        """
        if self.is_sqlite:
            return self.writing()
        connection = self.engine.connect()
        if not postgresql.needs_transaction(connection):
            return connection
        connection.close()
        return self.writing()

    def try_to_write(self) -> None:
        """Check that the disk takes writes, by one that changes nothing. Raises DBAPIError if the disk refuses it.

        A database that another process has locked at the moment is no failure.
        """
        try:
            with self.writing() as connection:
                connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = version_num")  # noqa: S608
        except OperationalError as error:
            if not is_refused_by_disk(error):
                return
            raise

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction for changes of the schema, one at a time.

        On SQLite a table is changed by copying it, so foreign keys are not enforced meanwhile; on PostgreSQL a second
        migration waits for the first.
        """
        with self._writer, self._writes.connect() as connection:
            if self.is_sqlite:
                connection.connection.execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                self.lock(connection, SCHEMA_LOCK)
                yield connection
            if self.is_sqlite:
                connection.connection.execute("PRAGMA foreign_keys = ON")
        _call_after_commit(connection)

    @contextmanager
    def changing_many(self, *first: int) -> Iterator[Connection]:
        """A transaction that changes many records. Only one runs at a time, and no tick of the dispatcher beside it:
        two that changed the same records in different orders would block each other, until PostgreSQL made one of them
        fail.

        `first`: locks to take before. Others may hold them for long, and ticks go on while this waits for them.
        """
        with self.writing() as connection:
            for number in (*first, DISPATCH_LOCK):
                self.lock(connection, number)
            yield connection

    def after_commit(self, connection: Connection, call: Callable[[], object]) -> None:
        """Make this call after the transaction is committed; never if the transaction fails."""
        calls = connection.get_execution_options().get(_AFTER_COMMIT, ())
        connection.execution_options(**{_AFTER_COMMIT: (*calls, call)})

    def analyze(self, connection: Connection, table: str) -> None:
        """Update PostgreSQL's statistics of a table after many rows were written, in this transaction too.

        By itself PostgreSQL does that only a minute after the commit, and plans queries badly until then.
        """
        if not self.is_sqlite:
            connection.exec_driver_sql(f"ANALYZE {table}")

    def try_lock(self, connection: Connection, number: int) -> bool:
        """Take the advisory lock until the transaction ends; False if another transaction holds it.

        Always True on SQLite, where only one transaction writes at a time.
        """
        return self.is_sqlite or bool(connection.scalar(select(func.pg_try_advisory_xact_lock(number))))

    def lock(self, connection: Connection, number: int) -> None:
        """Take the advisory lock until the transaction ends, blocking until it is free; no-op on SQLite."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(number)))

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        """SQL for the database's time plus `shift` seconds; on PostgreSQL it is the same throughout a transaction, so
        that an index can be used."""
        return self.later("now" if self.is_sqlite else func.now(), shift)

    def later(self, moment: str | Moment, shift: float | ColumnElement[Any]) -> ColumnElement[Any]:
        """SQL for a moment plus `shift` seconds."""
        if self.is_sqlite:
            return type_coerce(func.strftime(_SQLITE_TIME, moment, func.printf("%+.3f seconds", shift)), UtcDateTime)
        if isinstance(shift, ColumnElement):
            return type_coerce(moment + shift * literal_column("INTERVAL '1 second'"), UtcDateTime)
        # Written into the statement instead of passed as a parameter: psycopg parses statements with more than 50
        # parameters again each time.
        return type_coerce(moment + literal_column(f"INTERVAL '{shift:f} seconds'") if shift else moment, UtcDateTime)

    def empty_log(self) -> None:
        """Empty SQLite's log of changes, in which what was erased stands for a while; in its database it is overwritten
        at once. Who reads at the moment keeps it from that; then a later commit does it. PostgreSQL's autovacuum does
        the like by itself, some time later."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections that no thread uses."""
        self.engine.dispose()


class NotBackedUp(Exception):
    """No backup was made; the message says why, and what makes one."""


def back_up(database: Database, copy: Path) -> None:
    """Write the whole database into this empty file, as it is at one moment. Nobody waits for it: readers and the
    writer go on. Raises NotBackedUp for PostgreSQL, which has its own program for it, and if the copy is damaged."""
    if not database.is_sqlite:
        raise NotBackedUp(
            "the database is PostgreSQL, which brings its own program (under Compose see docs/operating.md, "
            f"Back up): {postgresql.write_pg_dump(database.engine.url)}"
        )
    try:
        with database.reading() as connection, closing(sqlite3.connect(copy)) as target:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)  # noqa: S101
            source.backup(target)
            # A backup is one file, without a log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise NotBackedUp(f"the backup could not be written ({error}): check the disk that it goes to") from error
    if verdict != "ok":
        raise NotBackedUp(f"the database is damaged ({verdict}): put back the latest backup that is not")


def _call_after_commit(connection: Connection) -> None:
    for call in connection.get_execution_options().get(_AFTER_COMMIT, ()):
        call()


def _make_sqlite_engine(url: str) -> Engine:
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
