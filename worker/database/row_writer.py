"""Many rows into one table by the quickest way of their database: COPY on PostgreSQL, executemany on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.schema import ScalarElementColumnDefault

Row = Sequence[Any]
Write = Callable[[Row], object]


class RowWriter:
    """Writes rows within the connection's transaction. A row has a value for each of `columns`, in their order; `same`
    are the columns that have one value in all rows, beside those for which the model has a default."""

    def __init__(self, connection: Connection, table: Table, columns: Sequence[str], same: dict[str, Any]) -> None:
        self._connection = connection
        binds = {column.name: _bind(connection, column.type) for column in table.columns}
        constants = {name: value for name, value in (_defaults(table) | same).items() if name not in columns}
        self._constants = tuple(binds[name](value) for name, value in constants.items())
        # Most values go as they are; a row is taken apart only where it must be.
        self._binds = [(place, binds[name]) for place, name in enumerate(columns) if binds[name] is not _as_it_is]
        self._table = table.name
        self._names = [*columns, *constants]

    @contextmanager
    def writing(self) -> Iterator[Write]:
        """What writes a row. All are written for certain when the block ends; PostgreSQL begins with the first ones at
        once, while the block does something else. Raises SQLAlchemy's DBAPIError, on either way."""
        way = self._insert if self._connection.dialect.name == "sqlite" else self._copy
        with way(", ".join(self._names)) as write:
            yield lambda row: write(self._complete(row))

    def _complete(self, row: Row) -> tuple[Any, ...]:
        values = [*row, *self._constants]
        for place, bind in self._binds:
            if values[place] is not None:
                values[place] = bind(values[place])
        return tuple(values)

    @contextmanager
    def _insert(self, names: str) -> Iterator[Write]:
        rows: list[Row] = []
        yield rows.append
        if rows:
            marks = ", ".join("?" * len(self._names))
            # The names are those of the model.
            statement = f"INSERT INTO {self._table} ({names}) VALUES ({marks})"  # noqa: S608
            self._connection.exec_driver_sql(statement, rows)

    @contextmanager
    def _copy(self, names: str) -> Iterator[Write]:
        driver: Any = self._connection.connection.driver_connection
        failure = self._connection.dialect.loaded_dbapi.Error
        statement = f"COPY {self._table} ({names}) FROM STDIN"
        try:
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                yield copy.write_row
        except failure as error:
            # As SQLAlchemy does for the statements that it runs itself: it knows nothing of COPY.
            raise DBAPIError.instance(statement, None, error, failure, hide_parameters=True) from error


def _as_it_is(value: Any) -> Any:
    return value


def _defaults(table: Table) -> dict[str, Any]:
    return {
        column.name: column.default.arg
        for column in table.columns
        if isinstance(column.default, ScalarElementColumnDefault)
    }


def _bind(connection: Connection, kind: Any) -> Callable[[Any], Any]:
    """From a value of the column's type to what the driver takes."""
    return kind.dialect_impl(connection.dialect).bind_processor(connection.dialect) or _as_it_is
