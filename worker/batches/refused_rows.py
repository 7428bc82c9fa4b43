"""Keeps the rows of a file that are refused, until they are mended, within the transaction of a load or a mend."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete

from models.base import LONGEST_DETAIL
from models.refused_row import RefusedRow
from worker.database.row_writer import RowWriter
from worker.intake import RowError

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


def close_refused_rows(connection: Connection, batch_id: int, row_numbers: Collection[int]) -> int:
    """Forget the refused rows of a batch with these numbers, since their tokens have records now. Returns how many."""
    mine = delete(RefusedRow).where(RefusedRow.batch_id == batch_id, RefusedRow.row_number.in_(row_numbers))
    return connection.execute(mine).rowcount if row_numbers else 0
