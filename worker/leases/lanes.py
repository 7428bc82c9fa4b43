"""Lanes: each is one statement about one record, which is executed for the records of several threads together. A
claim, a mark and a settlement cost most of their time on the way to the database and in its commit, and they share
both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Dialect,
    Row,
    String,
    bindparam,
    func,
    literal,
    literal_column,
    type_coerce,
)
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from worker.combining.combiner import Combiner
from worker.database.away import is_away
from worker.database.engine import Database

# The values of one record's statement, by name; and those of its columns that it returns, None where it found nothing.
Values: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Row[Any] | None
# What a statement is built of: an expression for each of its values, by name.
Given: TypeAlias = Mapping[str, ColumnElement[Any]]

# Every statement has these two. By the lease, which is one thread's, results are told apart. No value may have the name
# of a column: SQLAlchemy would write it there.
THIS: dict[str, TypeEngine[Any]] = {"this_id": BigInteger(), "this_lease": String()}


def bind(types: Mapping[str, TypeEngine[Any]]) -> Given:
    """Parameters of these names and types, of which the statement for one record is built."""
    return {name: bindparam(name, type_=kind) for name, kind in types.items()}


class Lane:
    """A statement for many records. `build` makes it of an expression for each of its values, which are those of THIS
    and of `types`, with their SQL types; the lease is the first column that it returns.

    On PostgreSQL the values of all records go in arrays, in one statement that commits by itself. On SQLite the same
    statement runs for one record after the other, in one transaction; and `then` after it, where it found its record,
    for what SQLite has no single statement."""

    def __init__(
        self,
        database: Database,
        types: Mapping[str, TypeEngine[Any]],
        build: Callable[[Given], Executable],
        then: Executable | None = None,
    ) -> None:
        self._database = database
        self._types = {**THIS, **types}
        dialect = database.engine.dialect
        self._one = _write_constants(build(bind(self._types)), dialect)
        self._then = then
        if not database.is_sqlite:
            arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in self._types.items()]
            given = func.unnest(*arrays).table_valued(*self._types).render_derived(name="given")
            many = build({name: type_coerce(given.c[name], kind) for name, kind in self._types.items()})
            self._many = _write_constants(many, dialect)
        self._combiner = Combiner[Values, Found](self._execute, is_away)

    def execute(self, values: Values) -> Found:
        """Execute the statement for one record, beside those of other threads. Returns what it returned, or None where
        it changed nothing. It is committed, durably, when this returns. Raises DBAPIError."""
        return self._combiner.submit(values)

    def _execute(self, requests: Sequence[Values]) -> Sequence[Found]:
        if self._database.is_sqlite:
            with self._database.writing() as connection:
                return [self._execute_one(connection, values) for values in requests]
        with self._database.writing_one() as connection:
            if len(requests) == 1:
                return [self._execute_one(connection, requests[0])]
            return self._execute_many(connection, requests)

    def _execute_one(self, connection: Connection, values: Values) -> Found:
        found = connection.execute(self._one, values).one_or_none()
        if found is not None and self._then is not None:
            connection.execute(self._then, values)
        return found

    def _execute_many(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        # By record, so that two processes that concern the same records do not lock them in different orders.
        in_order = sorted(requests, key=lambda values: values["this_id"])
        arrays = {name: [values[name] for values in in_order] for name in self._types}
        found = {row[0]: row for row in connection.execute(self._many, arrays)}
        return [found.get(values["this_lease"]) for values in requests]


def _write_constants(statement: Executable, dialect: Dialect) -> Executable:
    """Write the constants of a statement into its text. A claim has twenty of them and three values: as parameters they
    would be put together, sent and read again for each record."""

    def write(element: Any, **_: object) -> ColumnElement[Any] | None:
        # What differs from record to record has no value yet, or is asked for one each time.
        if not isinstance(element, BindParameter) or element.required or element.callable:
            return None
        # It would be doubled twice on its way.
        if "%" in str(element.value):
            return None
        # An update learns the types of its values when it is compiled; words are the only constants among them.
        constant = literal(element.value, String()) if isinstance(element.value, str) else element
        text = str(constant.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        return literal_column(text, constant.type)

    written: Executable = replacement_traverse(cast(Any, statement), {}, write)
    return written
