"""Lanes: each is one statement about one record, which is executed for the records of several threads together. A
claim, a mark and a settlement cost most of their time on the way to the database and in its commit, and they share
both."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.sql.base import Executable

from worker.combining import Combiner
from worker.database.engine import Database
from worker.database.errors import is_away
from worker.leases.lane_statements import THIS, AtOnce, Build, Found, InTurn, LaneStatement, Types, Values


class Lane:
    """A statement for many records. `build` makes it of an expression for each of its values, which are those of THIS
    and of `types`, with their SQL types; the lease is the first column that it returns.

    On PostgreSQL it is one statement for all records, which commits by itself. On SQLite it runs for one record after
    the other, in one transaction, each time with `then` after it (see InTurn)."""

    def __init__(self, database: Database, types: Types, build: Build, then: Executable | None = None) -> None:
        self._database = database
        types = {**THIS, **types}
        self._statement: LaneStatement = InTurn(types, build, then) if database.is_sqlite else AtOnce(types, build)
        self._combiner = Combiner[Values, Found](self._execute, is_away)

    def execute(self, values: Values) -> Found:
        """Execute the statement for one record, beside those of other threads. Returns what it returned, or None where
        it changed nothing. It is committed, durably, when this returns. Raises DBAPIError."""
        return self._combiner.submit(values)

    def _execute(self, requests: Sequence[Values]) -> Sequence[Found]:
        database = self._database
        with database.writing() if database.is_sqlite else database.writing_one() as connection:
            return self._statement.execute(connection, requests)
