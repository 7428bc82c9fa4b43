"""Finds the records of earlier loads that have the token or the device of a row, and opens their OTPs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, TextClause, func, select, text, true
from sqlalchemy import Row as ResultRow
from sqlalchemy.orm import InstrumentedAttribute

from models.encrypted import DecryptionError, Keyring
from models.record import Record
from models.record_indexes import NOT_FINAL
from worker.intake import Row
from worker.vault.otp_source import OtpSource
from worker.vault.sealed_otps import open_otps

Found: TypeAlias = "ResultRow[*tuple[Any, ...]]"

_COLUMNS = (
    Record.serial_number,
    Record.device_id,
    Record.user_id,
    Record.username,
    Record.email,
    Record.external_id,
    Record.status,
    Record.row_number,
    Record.batch_id,
    Record.otps,
    Record.otp1_posts,
    Record.otp2_posts,
    Record.next_counter,
)


class EarlierRecords:
    """Looks records of one environment up, within a transaction."""

    def __init__(self, connection: Connection, keyring: Keyring, environment_id: str) -> None:
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id

    def find(self, rows: Sequence[Row]) -> tuple[dict[str, list[Found]], dict[str, Found]]:
        """Find the records with the serial numbers of these rows, and those with their devices that are not final."""
        known = [row.device_id for row in rows if row.device_id]
        # In the words of the partial unique index, without which the whole table is read.
        devices = self._look_up(Record.device_id, known, text(NOT_FINAL), text("device_id <> ''"))
        return self.find_by_serial_number(rows), {found.device_id: found for found in devices}

    def find_by_serial_number(self, rows: Sequence[Row]) -> dict[str, list[Found]]:
        """Find the records with the serial numbers of these rows."""
        by_serial: dict[str, list[Found]] = {}
        for found in self._look_up(Record.serial_number, [row.serial_number for row in rows]):
            by_serial.setdefault(found.serial_number, []).append(found)
        return by_serial

    def open(self, found: Found) -> OtpSource | None:
        """Decrypt the pair or the seed of an earlier record; None if it was erased, or its key is gone."""
        return open_found(self._keyring, found)

    def _look_up(
        self, column: InstrumentedAttribute[str], values: list[str], *conditions: ColumnElement[bool] | TextClause
    ) -> Iterable[Found]:
        """Find the environment's records that have one of the values in the column."""
        records = select(*_COLUMNS).where(Record.environment_id == self._environment_id, *conditions)
        if self._connection.dialect.name == "sqlite":
            return self._connection.execute(records.where(column.in_(values)))
        # PostgreSQL has no statistics yet of what this transaction has written, and would read the whole table for each
        # chunk. OFFSET keeps it from merging the look-ups of the values, so that it uses the index for each.
        # The values go as one text, since the driver is slow with lists; they are letters, digits and hyphens, so none
        # holds a comma.
        sought = func.string_to_table(",".join(values), ",").table_valued("value", name="sought").render_derived()
        found = records.where(column == sought.c.value).offset(0).lateral()
        return self._connection.execute(select(found).select_from(sought.join(found, true())))


def open_found(keyring: Keyring, found: Found) -> OtpSource | None:
    """Decrypt the pair or the seed of a record; None if it was erased, or its key is gone."""
    if found.otps is None:
        return None
    try:
        return open_otps(keyring, found.otps, found.batch_id, found.row_number)
    except DecryptionError:
        return None
