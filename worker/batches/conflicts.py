"""Finds the rows of a shipment that must not be loaded, because their token or device is in the database already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, TextClause, func, select, text, true
from sqlalchemy import Row as ResultRow
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring
from models.record import FINAL, Record, Status
from models.record_indexes import NOT_FINAL
from worker.batches.record_rows import NewRecord
from worker.intake import Row, RowError
from worker.vault.otp import Otp, OtpPair
from worker.vault.otp_source import OtpSource
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

Found: TypeAlias = "ResultRow[*tuple[Any, ...]]"

_COLUMNS = (
    Record.serial_number,
    Record.device_id,
    Record.status,
    Record.row_number,
    Record.batch_id,
    Record.otps,
    Record.otp1_posts,
    Record.otp2_posts,
    Record.next_counter,
)


class Conflicts:
    """Compares rows with the records of one environment, within the load's transaction."""

    def __init__(self, connection: Connection, keyring: Keyring, environment_id: str, batch_id: int) -> None:
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id
        self._batch_id = batch_id

    def split(self, rows: Sequence[Row], lacking: Mapping[int, str]) -> tuple[list[NewRecord], list[RowError], int]:
        """Part these rows into those that may be loaded, the reasons why others may not, and how many have a token that
        is active already. Rows of earlier calls count as loaded. `lacking`: why rows have no OTPs, by their numbers."""
        serials, devices = self._find_earlier(rows)
        good: list[NewRecord] = []
        errors: list[RowError] = []
        already_active = 0
        in_chunk: dict[str, int] = {}
        for row in rows:
            if _is_active(row, serials.get(row.serial_number, ())):
                already_active += 1
                continue
            reason = self._explain_duplicate(row, in_chunk) or self._explain_conflict(row, serials, devices)
            if reason := reason or lacking.get(row.row_number):
                errors.append(RowError(row.row_number, reason, row.serial_number))
            else:
                good.append(NewRecord(row, self._choose_counter(row, serials.get(row.serial_number, ()))))
                in_chunk |= {value: row.row_number for _, value in _identities(row)}
        return good, errors, already_active

    def _find_earlier(self, rows: Sequence[Row]) -> tuple[dict[str, list[Found]], dict[str, Found]]:
        """Find the records with these serial numbers, and those with these devices that are not final."""
        by_serial: dict[str, list[Found]] = {}
        for found in self._look_up(Record.serial_number, [row.serial_number for row in rows]):
            by_serial.setdefault(found.serial_number, []).append(found)
        known = [row.device_id for row in rows if row.device_id]
        devices = self._look_up(Record.device_id, known, text(NOT_FINAL))
        return by_serial, {found.device_id: found for found in devices}

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

    def _explain_duplicate(self, row: Row, in_chunk: dict[str, int]) -> str | None:
        """Why a row repeats one of the same chunk; None if it does not. `in_chunk`: row numbers by serial number or
        device."""
        for what, value in _identities(row):
            if value in in_chunk:
                return f"the {what} stands on row {in_chunk[value]} of this file already: keep one of the two rows"
        return None

    def _explain_conflict(self, row: Row, serials: dict[str, list[Found]], devices: dict[str, Found]) -> str | None:
        """Why an earlier record stands in the way of this row; None if none does."""
        for found in serials.get(row.serial_number, ()):
            if reason := self._explain_by_serial_number(row, found):
                return reason
        elsewhere = devices.get(row.device_id or "")
        return self._explain_in_progress("device", elsewhere) if elsewhere else None

    def _explain_by_serial_number(self, row: Row, found: Found) -> str | None:
        """Why an earlier record of the same serial number stands in the way; None if it does not."""
        if found.status not in FINAL:
            return self._explain_in_progress("serial number", found)
        # A row that comes back may be for a new device, and have the OTPs that were meant for the old one.
        if found.device_id != row.device_id and not row.origin:
            return None
        if isinstance(row.otps, OtpPair) and self._find_used_otps(found) & {row.otps.first, row.otps.second}:
            return (
                f"an OTP of this row was sent already, in batch {self._name_batch(found)!r} (row {found.row_number}):"
                " press the token for two fresh, consecutive OTPs"
            )
        return None

    def _choose_counter(self, row: Row, earlier: Iterable[Found]) -> int | None:
        """Choose the counter that a seed begins with; None for a pair. It goes on where earlier records of the same
        token ended: no counter is used twice."""
        if not isinstance(row.otps, Seed):
            return None
        used: list[int] = [
            found.next_counter for found in earlier if found.next_counter and self._is_same_seed(row.otps, found)
        ]
        return max([row.otps.counter, *used])

    def _is_same_seed(self, seed: Seed, found: Found) -> bool:
        """Whether an earlier record had this seed. One that was erased, or whose key is gone, counts as the same."""
        earlier = self._open(found)
        return not isinstance(earlier, Seed) or earlier.secret == seed.secret

    def _explain_in_progress(self, what: str, found: Found) -> str:
        if found.batch_id == self._batch_id:
            return f"the {what} stands on row {found.row_number} of this file already: keep one of the two rows"
        return (
            f"the {what} is in progress in batch {self._name_batch(found)!r} (row {found.row_number}):"
            " wait until it is finished, or cancel it there"
        )

    def _name_batch(self, found: Found) -> str:
        return self._connection.scalars(select(Batch.name).where(Batch.id == found.batch_id)).one()

    def _find_used_otps(self, found: Found) -> set[Otp | None]:
        """The OTPs that an earlier record of this token has sent, or may have sent."""
        used: set[Otp | None] = set()
        pair = self._open(found)
        if not isinstance(pair, OtpPair):
            # Nobody can tell; PingOne's answer will. Or it is a seed, which makes other OTPs for each post.
            return used
        # By its posts and not by its state: an OTP that a read found unused is unsent again, but it may go only once
        # more, and with that record.
        if found.otp1_posts:
            used.add(pair.first)
        if found.otp2_posts and pair.second is not None:
            used.add(pair.second)
        return used

    def _open(self, found: Found) -> OtpSource | None:
        """Decrypt the pair or the seed of an earlier record; None if it was erased, or its key is gone."""
        if found.otps is None:
            return None
        try:
            return open_otps(self._keyring, found.otps, found.batch_id, found.row_number)
        except DecryptionError:
            return None


def _is_active(row: Row, earlier: Iterable[Found]) -> bool:
    """Whether the token of a row is active already: on the row's device; or on any, where the row comes back as it was
    and a later batch made it active."""
    active = [found for found in earlier if found.status == Status.ACTIVE]
    if any(found.device_id == row.device_id for found in active):
        return True
    origin = row.origin
    if origin is None or not any(found.batch_id > origin.batch_id for found in active):
        return False
    came_from = (origin.batch_id, origin.row_number, row.device_id)
    return any((found.batch_id, found.row_number, found.device_id) == came_from for found in earlier)


def _identities(row: Row) -> list[tuple[str, str]]:
    """What only one record in progress may have: the serial number, and the device if it is known."""
    device = [("device", row.device_id)] if row.device_id else []
    return [("serial number", row.serial_number), *device]
