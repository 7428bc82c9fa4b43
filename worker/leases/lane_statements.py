"""A lane's statement as it goes to the database: on SQLite for one record after the other, on PostgreSQL for all of
them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Row, String, bindparam, func, type_coerce
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

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

    def __init__(self, types: Types, build: Build, then: Executable | None) -> None:
        self._statement = build(bind(types))
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
    kept for any array expects ten records, so that PostgreSQL would make one anew for each record."""

    def __init__(self, types: Types, build: Build) -> None:
        arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
        given = func.unnest(*arrays).table_valued(*types).render_derived(name="given")
        self._names = tuple(types)
        self._one = build(bind(types))
        self._many = build({name: type_coerce(given.c[name], kind) for name, kind in types.items()})

    def execute(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        if len(requests) == 1:
            return [connection.execute(self._one, requests[0]).one_or_none()]
        # By record, so that two processes that concern the same records do not lock them in different orders.
        in_order = sorted(requests, key=lambda values: values["this_id"])
        arrays = {name: [values[name] for values in in_order] for name in self._names}
        found = {row[0]: row for row in connection.execute(self._many, arrays)}
        return [found.get(values["this_lease"]) for values in requests]
