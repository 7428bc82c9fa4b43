"""The database: its engine, transactions that say whether they write, and its clock, the only one for leases."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from models.base import UtcDateTime
from worker.clocks.waiting_time import WaitingTime
from worker.database import postgresql

Moment: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]

# Numbers of our own in PostgreSQL's space of advisory locks.
DISPATCH_LOCK = 0x0A7B_0001
LOAD_LOCK = 0x0A7B_0002
SCHEMA_LOCK = 0x0A7B_0003
AUDIT_LOCK = 0x0A7B_0004
PROCESS_LOCK = 0x0A7B_0005

# An execution option of a connection: what to call after its transaction, and with which values.
_AFTER_COMMIT = "oathbulk_after_commit"

# How SQLite writes a time: text that sorts, and that SQLAlchemy reads back.
_SQLITE_TIME = "%Y-%m-%d %H:%M:%f000"


class Database:
    """A PostgreSQL or SQLite database. Thread-safe; one a process."""

    def __init__(self, url: str, *, connections: int = 4, patience: float = 0.0) -> None:
        """`connections`: the most that a process has open to PostgreSQL; threads wait for one. `patience`: so many
        seconds a PostgreSQL that has no connection left is asked again."""
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite(url) if self.is_sqlite else postgresql.make_engine(url, connections, patience)
        # What threads wait for a connection, all together.
        self.waiting = WaitingTime()
        # The engine itself is PostgreSQL's for single statements; what spans several says that it is a transaction.
        in_transaction = {} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reads = self.engine.execution_options(**in_transaction)
        self._writes = self._reads.execution_options(begins_immediate=True)
        # SQLite has one writer at a time. Threads of one process queue here, in order, instead of polling the file.
        self._writer: AbstractContextManager[Any] = threading.Lock() if self.is_sqlite else nullcontext()

    def reading(self) -> AbstractContextManager[Connection]:
        return self._connect(self._reads)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits, durably, at the end; then comes what `after_commit` was given."""
        with self._writer, self._connect(self._writes) as connection, connection.begin():
            yield connection
        _call_after_commit(connection)

    def writing_one(self) -> AbstractContextManager[Connection]:
        """For one statement, and committed with it. PostgreSQL does that by itself, just as durably: BEGIN and COMMIT
        would be two more trips to it, which are made where a transaction has to say what it needs."""
        if self.is_sqlite:
            return self.writing()
        connection = self._connect(self.engine)
        if not postgresql.is_told_each_time(connection):
            return connection
        connection.close()
        return self.writing()

    def try_to_write(self) -> None:
        """Write something that changes nothing. Raises DBAPIError where the disk refuses it; a database that another
        holds right now is none that cannot be written to."""
        try:
            with self.writing() as connection:
                connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
        except OperationalError as error:
            if not is_refused_by_disk(error):
                return
            raise

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction for changes of the schema. On SQLite a table is changed by copying it, so foreign keys are
        looked at only at its end; on PostgreSQL a second migration waits for the first."""
        with self._writer, self._connect(self._writes) as connection:
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
        """A transaction that changes many records. One at a time, ticks of the dispatcher among them: two that met
        the same records in different orders would block each other, until PostgreSQL made one of them fail. `first`:
        locks that may be long in coming, during which ticks go on."""
        with self.writing() as connection:
            for number in (*first, DISPATCH_LOCK):
                self.lock(connection, number)
            yield connection

    def after_commit(self, connection: Connection, call: Callable[[list[Any]], None], value: object) -> None:
        """Call `call` once the transaction is committed, with all the values that were given for it; or never."""
        calls = connection.get_execution_options().get(_AFTER_COMMIT)
        if calls is None:
            calls = dict[Callable[[list[Any]], None], list[Any]]()
            connection.execution_options(**{_AFTER_COMMIT: calls})
        calls.setdefault(call, []).append(value)

    def analyze(self, connection: Connection, table: str) -> None:
        """Tell PostgreSQL what a table holds after much of it was written, in this transaction too; by itself it looks
        only a minute after the commit, and plans badly until then."""
        if not self.is_sqlite:
            connection.exec_driver_sql(f"ANALYZE {table}")

    def try_lock(self, connection: Connection, number: int) -> bool:
        """Take an exclusive right until the transaction ends; False when another holds it. On SQLite the writing
        transaction itself is that right."""
        return self.is_sqlite or bool(connection.scalar(select(func.pg_try_advisory_xact_lock(number))))

    def lock(self, connection: Connection, number: int) -> None:
        """The same, waiting for it."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(number)))

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        """The database's time, plus `shift` seconds; the same throughout a transaction, so that an index can serve."""
        return self.later("now" if self.is_sqlite else func.now(), shift)

    def later(self, moment: str | Moment, shift: float | ColumnElement[Any]) -> ColumnElement[Any]:
        """A moment plus `shift` seconds."""
        if self.is_sqlite:
            return type_coerce(func.strftime(_SQLITE_TIME, moment, func.printf("%+.3f seconds", shift)), UtcDateTime)
        if isinstance(shift, ColumnElement):
            return type_coerce(moment + shift * literal_column("INTERVAL '1 second'"), UtcDateTime)
        # Written out: psycopg takes statements with more than 50 parameters apart anew each time.
        return type_coerce(moment + literal_column(f"INTERVAL '{shift:f} seconds'") if shift else moment, UtcDateTime)

    def close(self) -> None:
        self.engine.dispose()

    def _connect(self, engine: Engine) -> Connection:
        with self.waiting:
            return engine.connect()


def is_refused_by_disk(error: DBAPIError) -> bool:
    """The disk of an SQLite database is full, read-only or broken."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    # The lowest byte is the kind, what stands above it a variety: https://www.sqlite.org/rescode.html
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


def _call_after_commit(connection: Connection) -> None:
    for call, values in connection.get_execution_options().get(_AFTER_COMMIT, {}).items():
        call(values)


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions by itself: the first statement decides too late whether one writes.
        connection.isolation_level = None
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail half-way when another has written in between.
        immediate = connection.get_execution_options().get("begins_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
