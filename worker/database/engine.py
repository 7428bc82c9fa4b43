"""The database: its engine, transactions for reading and for writing, locks, and its clock, the only clock for
leases."""

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
    and_,
    create_engine,
    event,
    func,
    literal_column,
    make_url,
    select,
    true,
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

# Numbers of advisory locks in PostgreSQL, from our own range. Only one dispatcher tick, or other change of many
# records, at a time.
DISPATCH_LOCK = 0x0A7B_0001
# Only one load, or command that makes final records due again, at a time: both may concern the same tokens.
LOAD_LOCK = 0x0A7B_0002
# One migration at a time.
SCHEMA_LOCK = 0x0A7B_0003
# One writer of the audit at a time, since each line has the hash of the one before.
AUDIT_LOCK = 0x0A7B_0004
# Only one worker process at a time may shut down because it alone is failing: it has to find a healthy one.
PROCESS_LOCK = 0x0A7B_0005

# SQL that lets PostgreSQL end the transaction, with its locks, if the process that holds them does nothing for this
# long: a process that is suspended keeps its connections. Milliseconds.
_END_IF_IDLE = func.set_config("idle_in_transaction_session_timeout", "30000", true())

# The connection's execution option with the calls to make after its transaction.
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
        """`connections`: how many this process opens to PostgreSQL at most; threads wait for a free one.
        `connect_within`: seconds for which connecting is retried while PostgreSQL has no connection left.
        `checks_connections`: check with PostgreSQL before each use that a connection still works."""
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = (
            _make_sqlite_engine(url)
            if self.is_sqlite
            else postgresql.make_engine(url, connections, connect_within, checks_connections=checks_connections)
        )
        # On PostgreSQL each statement commits by itself unless an isolation level asks for a transaction.
        in_transaction = {} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._writes = self.engine.execution_options(**in_transaction, begins_immediate=True)
        # SQLite has one writer at a time. The threads of a process queue here, instead of trying the file's lock again
        # and again.
        self._writer: AbstractContextManager[Any] = threading.Lock() if self.is_sqlite else nullcontext()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection for statements that write nothing.

        On PostgreSQL each statement is its own transaction: at READ COMMITTED, a transaction around them would show
        nothing more, and BEGIN and ROLLBACK would take a trip each. A server-side cursor (`yield_per`) needs
        `reading_snapshot`.
        """
        return self.engine.connect()

    @contextmanager
    def reading_snapshot(self) -> Iterator[Connection]:
        """A connection on which all statements see the database as it was at the first statement."""
        with self.reading() as connection:
            # SQLite's transactions are snapshots by themselves.
            yield connection if self.is_sqlite else connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits durably at its end, and then makes the calls given to `after_commit`."""
        with self._writer, self._writes.connect() as connection, connection.begin():
            yield connection
        _call_after_commit(connection)

    def writing_one(self) -> AbstractContextManager[Connection]:
        """A connection for a single statement, which is committed as durably as with `writing`. PostgreSQL commits a
        single statement by itself, so no trips for BEGIN and COMMIT are needed, unless `needs_transaction` says so."""
        if self.is_sqlite:
            return self.writing()
        connection = self.engine.connect()
        if not postgresql.needs_transaction(connection):
            return connection
        connection.close()
        return self.writing()

    def try_to_write(self) -> None:
        """Check that the disk accepts writes, with one that changes nothing. Raises DBAPIError if the disk refuses it.
        A database that another process has locked is not a failure."""
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
        """A transaction that changes many records. Only one runs at a time, and no dispatcher tick beside it: two that
        change the same records in different orders would deadlock. `first`: locks to take before that, which others may
        hold for long; ticks continue meanwhile."""
        with self.writing() as connection:
            for number in (*first, DISPATCH_LOCK):
                self.lock(connection, number)
            yield connection

    def after_commit(self, connection: Connection, call: Callable[[], object]) -> None:
        """Make this call after the transaction is committed; never if the transaction fails."""
        calls = connection.get_execution_options().get(_AFTER_COMMIT, ())
        connection.execution_options(**{_AFTER_COMMIT: (*calls, call)})

    def analyze(self, connection: Connection, table: str) -> None:
        """Update PostgreSQL's statistics of a table after many rows were written, also in this transaction. PostgreSQL
        itself does that only a minute after the commit, and plans queries badly until then."""
        if not self.is_sqlite:
            connection.exec_driver_sql(f"ANALYZE {table}")

    def try_lock(self, connection: Connection, number: int) -> bool:
        """Take the advisory lock until the transaction ends; False if another transaction holds it."""
        return bool(connection.scalar(select(self.locking(number))))

    def locking(self, number: int) -> ColumnElement[bool]:
        """SQL that takes the advisory lock until the transaction ends, or is idle for half a minute; false if another
        transaction holds it.

        Always true on SQLite, where only one transaction writes at a time.
        """
        if self.is_sqlite:
            return true()
        return and_(_END_IF_IDLE.is_not(None), func.pg_try_advisory_xact_lock(number))

    def lock(self, connection: Connection, number: int) -> None:
        """Take the advisory lock until the transaction ends, or is idle for half a minute. Waits until the lock is
        free; does nothing on SQLite."""
        if not self.is_sqlite:
            connection.execute(select(_END_IF_IDLE, func.pg_advisory_xact_lock(number)))

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        """SQL for the database's time plus `shift` seconds; on PostgreSQL it is constant within a transaction, so that
        an index can be used."""
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
        """Empty SQLite's write-ahead log, which keeps erased data for a while; the database itself is overwritten at
        once. While somebody reads, a later commit empties it. PostgreSQL's autovacuum does the same later."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the idle connections."""
        self.engine.dispose()


class NotBackedUp(Exception):
    """No backup was made; the message says why, and what to do instead."""


def back_up(database: Database, copy: Path) -> None:
    """Write the whole database into this empty file, as of one moment, while readers and the writer continue. Raises
    NotBackedUp for PostgreSQL, which has its own program, and if the copy is damaged."""
    if not database.is_sqlite:
        raise NotBackedUp(
            "the database is PostgreSQL, which has its own program (under Compose, see docs/operating.md, "
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
        raise NotBackedUp(f"the backup could not be written ({error}): check the target disk") from error
    if verdict != "ok":
        raise NotBackedUp(f"the database is damaged ({verdict}): restore the latest backup that is not")


def _call_after_commit(connection: Connection) -> None:
    for call in connection.get_execution_options().get(_AFTER_COMMIT, ()):
        call()


def _make_sqlite_engine(url: str) -> Engine:
    """Make the engine: every transaction says whether it writes, and a commit survives a power cut."""
    engine = create_engine(url, connect_args={"timeout": _LOCK_TIMEOUT}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions by itself: it would do so at the first statement, without knowing
        # whether the transaction will write.
        connection.isolation_level = None
        # secure_delete: changed or removed data is overwritten with zeros. Otherwise OTPs and seeds that were erased,
        # or encrypted with another key, stay in the file, unless SQLite was built with this on.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # BEGIN IMMEDIATE, because a transaction that reads first and writes later fails if another has written in
        # between.
        immediate = connection.get_execution_options().get("begins_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
