"""The hunt's database on PostgreSQL, where many threads' writes are one statement that commits by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.adapt import Loader
from sqlalchemy import ColumnElement, Connection, bindparam
from support.servers.postgres import EMPTY

from hunt.database import HuntedDatabase
from models.base import UtcDateTime


class HuntedPostgres(HuntedDatabase):
    """A migrated database without rows, which this empties for each scenario."""

    raw: PlainConnection

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.raw = PlainConnection(url)

    def close(self) -> None:
        """Close every connection."""
        self.raw.close()
        super().close()

    @contextmanager
    def writing_one(self) -> Iterator[Connection]:
        """A single statement, which commits by itself: nobody dies between the two."""
        self._linger()
        self._switch()
        self._may_fail("database_lost")
        with self._in_transaction(), super().writing_one() as connection:
            yield connection
        self._committed()
        self._may_fail("commit_unheard")
        self._switch()

    def _empty(self) -> None:
        self.raw.execute(EMPTY)

    def _read_clock(self) -> ColumnElement[Any]:
        return bindparam("now", callable_=self._find_time, type_=UtcDateTime(), unique=True)

    def _find_time(self) -> datetime:
        return datetime.fromisoformat(self.clock.text()).replace(tzinfo=UTC)


class PlainConnection:
    """A connection past SQLAlchemy, on which each statement commits by itself. It is no subject of the triggers that
    keep people from changing the audit."""

    def __init__(self, url: str) -> None:
        options = "-c session_replication_role=replica -c timezone=UTC"
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True, options=options)
        self._connection.adapters.register_loader("timestamptz", _TimeAsText)

    def execute(self, statement: str, values: Any = ()) -> psycopg.Cursor:
        """Execute a statement whose parameters are written as `?`."""
        return self._connection.execute(statement.replace("?", "%s").encode(), values or None)

    def close(self) -> None:
        self._connection.close()


class _TimeAsText(Loader):
    """Loads a time as SQLite keeps it: `2026-01-01 00:00:01.500000`."""

    def load(self, data: Any) -> str:
        time, _, fraction = bytes(data).decode().removesuffix("+00").partition(".")
        return f"{time}.{fraction.ljust(6, '0')}"
