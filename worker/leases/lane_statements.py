"""A lane's statement as it goes to the database: on SQLite for one record after the other, on PostgreSQL for all of
them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
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
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from worker.database.array_text import choose_writer

# The values of one record's statement, by name; and those of its columns that it returns, None where it found nothing.
Values: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Row[Any] | None
# The SQL types of the values, by name.
Types: TypeAlias = Mapping[str, TypeEngine[Any]]
# What a statement is built of: an expression for each of its values, by name.
Given: TypeAlias = Mapping[str, ColumnElement[Any]]
Build: TypeAlias = Callable[[Given], Executable]

# Every statement has these two. By the lease, which is one thread's, results are told apart. No value may have the name
# of a column: SQLAlchemy would write it there.
THIS: dict[str, TypeEngine[Any]] = {"this_id": BigInteger(), "this_lease": String()}


def bind(types: Types) -> Given:
    """Parameters of these names and types, of which the statement for one record is built."""
    return {name: bindparam(name, type_=kind) for name, kind in types.items()}


class LaneStatement(Protocol):
    """A statement about records, each with values of its own."""

    def execute(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        """Execute it for these records. Returns what it returned for each, in their order. Raises DBAPIError."""
        ...


class InTurn:
    """Runs for one record after the other; and `then` after it, where it found its record, for what SQLite has no
    single statement."""

    def __init__(self, dialect: Dialect, types: Types, build: Build, then: Executable | None) -> None:
        self._statement = _write_constants(build(bind(types)), dialect)
        self._then = then

    def execute(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        return [self._execute_one(connection, values) for values in requests]

    def _execute_one(self, connection: Connection, values: Values) -> Found:
        found = connection.execute(self._statement, values).one_or_none()
        if found is not None and self._then is not None:
            connection.execute(self._then, values)
        return found


class AtOnce:
    """Runs for all records together, whose values go in arrays. A record that is alone goes without: a plan that is
    kept for any array expects ten records, so that PostgreSQL would make one anew for each record.

    SQLAlchemy writes both texts once. As statements that have to be looked up and bound each time, they would take the
    processor twice as long. So what they return comes as the driver gives it."""

    def __init__(self, dialect: Dialect, types: Types, build: Build) -> None:
        self._writers = {name: choose_writer(kind) for name, kind in types.items()}
        arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
        given = func.unnest(*arrays).table_valued(*types).render_derived(name="given")
        many = build({name: type_coerce(given.c[name], kind) for name, kind in types.items()})
        self.one, self.many = _Text(build(bind(types)), dialect, types), _Text(many, dialect, types)

    def execute(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        if len(requests) == 1:
            return [self.one.execute(connection, requests[0]).one_or_none()]
        # By record, so that two processes that concern the same records do not lock them in different orders.
        in_order = sorted(requests, key=lambda values: values["this_id"])
        arrays = {name: write([values[name] for values in in_order]) for name, write in self._writers.items()}
        found = {row[0]: row for row in self.many.execute(connection, arrays)}
        return [found.get(values["this_lease"]) for values in requests]


class _Text:
    """A statement as the text that goes to PostgreSQL, in which the values of these types are left open."""

    def __init__(self, statement: Executable, dialect: Dialect, types: Types) -> None:
        self._statement: Any = _write_constants(statement, dialect)
        self._dialect = dialect
        self._types = types

    @cached_property
    def compiled(self) -> SQLCompiler:
        """The statement as it was compiled."""
        return cast(SQLCompiler, self._statement.compile(dialect=self._dialect))

    @cached_property
    def _text(self) -> str:
        return str(self.compiled)

    @cached_property
    def _others(self) -> Sequence[tuple[str, BindParameter[Any]]]:
        """What is left open beside these values: a constant that has a percent sign, and the time where a test has a
        clock of its own."""
        return [(name, parameter) for parameter, name in self.compiled.bind_names.items() if name not in self._types]

    def execute(self, connection: Connection, values: Values) -> CursorResult[Any]:
        """Execute it with these values. Raises DBAPIError."""
        others = {name: parameter.effective_value for name, parameter in self._others}
        return connection.exec_driver_sql(self._text, {**values, **others})


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
