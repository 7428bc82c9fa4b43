"""Writes many rows into a table the fastest way: with COPY on PostgreSQL, with executemany on SQLite."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.schema import ScalarElementColumnDefault

Row = Sequence[Any]
Write = Callable[[Row], object]


class RowWriter:
    """Writes many rows into a table, within the connection's transaction. A row has a value for each of `columns`, in
    order. `same` has the values of columns that are equal in all rows; other columns get the model's default."""

    def __init__(self, connection: Connection, table: Table, columns: Sequence[str], same: dict[str, Any]) -> None:
        self._connection = connection
        converters = {column.name: _find_converter(connection, column.type) for column in table.columns}
        constants = {name: value for name, value in (_find_defaults(table) | same).items() if name not in columns}
        self._constants = tuple(converters[name](value) for name, value in constants.items())
        # Only values that the driver does not accept as they are need conversion.
        self._converters = [
            (place, converters[name]) for place, name in enumerate(columns) if converters[name] is not _leave_unchanged
        ]
        self._table = table.name
        self._names = [*columns, *constants]

    @contextmanager
    def writing(self) -> Iterator[Write]:
        """Yield a function that writes a row. All rows are in the table when the block ends; PostgreSQL receives the
        first ones while the block prepares others. Raises SQLAlchemy's DBAPIError on both databases."""
        method = self._insert if self._connection.dialect.name == "sqlite" else self._copy
        with method(", ".join(self._names)) as write:
            yield lambda row: write(self._complete(row))

    def _complete(self, row: Row) -> tuple[Any, ...]:
        """Add the values that are equal in all rows, and convert those that the driver does not accept."""
        values = [*row, *self._constants]
        for place, convert in self._converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        return tuple(values)

    @contextmanager
    def _insert(self, names: str) -> Iterator[Write]:
        rows: list[Row] = []
        yield rows.append
        if rows:
            marks = ", ".join("?" * len(self._names))
            # The names come from the model, not from anybody's input.
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
            # SQLAlchemy wraps the errors of statements that it runs itself, but COPY bypasses it.
            raise DBAPIError.instance(statement, None, error, failure, hide_parameters=True) from error


def _leave_unchanged(value: Any) -> Any:
    return value


def _find_defaults(table: Table) -> dict[str, Any]:
    """The constant defaults that the model has for columns, by name."""
    return {
        column.name: column.default.arg
        for column in table.columns
        if isinstance(column.default, ScalarElementColumnDefault)
    }


def _find_converter(connection: Connection, kind: Any) -> Callable[[Any], Any]:
    """The function that converts a value of a column's type to one that the driver accepts."""
    return kind.dialect_impl(connection.dialect).bind_processor(connection.dialect) or _leave_unchanged
