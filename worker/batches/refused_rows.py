"""Keeps the rows of a file that are refused, within the load's transaction; and finds those that come back mended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, select, update

from models.base import LONGEST_DETAIL
from models.refused_row import RefusedRow
from worker.database.row_writer import RowWriter
from worker.intake import Origin, Row, RowError

_COLUMNS = ("row_number", "serial_number", "reason", "detail")


class RefusedRows:
    """Writes the refused rows of one batch."""

    def __init__(self, connection: Connection, environment_id: str, batch_id: int) -> None:
        table = RefusedRow.metadata.tables[RefusedRow.__tablename__]
        same = {"batch_id": batch_id, "environment_id": environment_id}
        self._writer = RowWriter(connection, table, _COLUMNS, same)

    def write(self, errors: Sequence[RowError]) -> None:
        """Write these rows; nothing secret is in the reason of a RowError."""
        if not errors:
            return
        with self._writer.writing() as write:
            for error in errors:
                write((error.row_number, error.serial_number, str(error.fault), error.reason[:LONGEST_DETAIL]))


def find_refused(connection: Connection, environment_id: str, origins: Iterable[Origin]) -> set[Origin]:
    """Find which of these origins are refused rows of this environment."""
    numbers: dict[int, list[int]] = {}
    for origin in origins:
        numbers.setdefault(origin.batch_id, []).append(origin.row_number)
    mine = select(RefusedRow.batch_id, RefusedRow.row_number).where(RefusedRow.environment_id == environment_id)
    return {
        Origin(found.batch_id, found.row_number)
        for batch_id, some in numbers.items()
        for found in connection.execute(mine.where(RefusedRow.batch_id == batch_id, RefusedRow.row_number.in_(some)))
    }


def note_serial_numbers(connection: Connection, rows: Iterable[Row]) -> None:
    """Note of refused rows that come back as these ones which tokens they are: the serial number may have been what was
    wrong, and by it the token is found in the later batch."""
    values = [
        {"of_batch": row.origin.batch_id, "number": row.origin.row_number, "serial_number": row.serial_number}
        for row in rows
        if row.origin
    ]
    if values:
        mine = update(RefusedRow.__table__).where(  # type: ignore[arg-type]
            RefusedRow.batch_id == bindparam("of_batch"), RefusedRow.row_number == bindparam("number")
        )
        connection.execute(mine.values(serial_number=bindparam("serial_number")), values)
