"""Many rows into one table by the quickest way of their database: COPY on PostgreSQL, executemany on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.schema import ScalarElementColumnDefault

Row = Sequence[Any]


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
        names = ", ".join([*columns, *constants])
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * (len(columns) + len(constants)))
            self._send = self._insert
            self._statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - the model's own names
        else:
            self._send = self._copy
            self._statement = f"COPY {table.name} ({names}) FROM STDIN"

    def write(self, rows: Iterable[Row]) -> None:
        """Raises SQLAlchemy's DBAPIError, on either way."""
        self._send(map(self._complete, rows))

    def _complete(self, row: Row) -> tuple[Any, ...]:
        values = [*row, *self._constants]
        for place, bind in self._binds:
            if values[place] is not None:
                values[place] = bind(values[place])
        return tuple(values)

    def _insert(self, rows: Iterable[Row]) -> None:
        if values := list(rows):
            self._connection.exec_driver_sql(self._statement, values)

    def _copy(self, rows: Iterable[Row]) -> None:
        driver: Any = self._connection.connection.driver_connection
        failure = self._connection.dialect.loaded_dbapi.Error
        try:
            with driver.cursor() as cursor, cursor.copy(self._statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except failure as error:
            # As SQLAlchemy does for the statements that it runs itself: it knows nothing of COPY.
            raise DBAPIError.instance(self._statement, None, error, failure, hide_parameters=True) from error


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
