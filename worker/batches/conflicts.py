"""Finds the rows of a shipment that must not be loaded, because their token or device is in the database already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import Connection, select

from models.batch import Batch
from models.encrypted import Keyring
from models.record_states import FINAL, Status
from models.row_fault import RowFault
from worker.batches.earlier_records import EarlierRecords, Found
from worker.batches.past_tokens import Past, PastTokens
from worker.batches.record_rows import NewRecord
from worker.intake import Row, RowError
from worker.pingone.users import fold_case
from worker.vault.otp import Otp, OtpPair
from worker.vault.seed import Seed

# What names a person, the most certain first.
_PERSON = ("user_id", "username", "email", "external_id")

# Why a row is refused: in a sentence, and in a word.
Refusal: TypeAlias = "tuple[str, RowFault]"


class Conflicts:
    """Compares rows with the records of one environment, within the load's transaction. `batch_id` is the batch that
    the rows are written to; None where they are not written, and are remembered here instead."""

    def __init__(self, connection: Connection, keyring: Keyring, environment_id: str, batch_id: int | None) -> None:
        self._connection = connection
        self._earlier = EarlierRecords(connection, keyring, environment_id)
        self._past = PastTokens(connection, keyring, environment_id)
        self._batch_id = batch_id
        # Row numbers by serial number or device, of rows that may be loaded and are not written.
        self._not_written: dict[str, int] = {}

    def split(self, rows: Sequence[Row], lacking: Mapping[int, str]) -> tuple[list[NewRecord], list[RowError], int]:
        """Part these rows into those that may be loaded, the reasons why others may not, and how many have a token that
        is active already. Rows of earlier calls count as loaded. `lacking`: why rows have no OTPs, by their numbers."""
        serials, devices = self._earlier.find(rows)
        # After the records, since a purge that goes on meanwhile puts in the same moment the one in place of the other.
        past = self._past.find(rows)
        good: list[NewRecord] = []
        errors: list[RowError] = []
        already_active = 0
        in_chunk: dict[str, int] = {} if self._batch_id is not None else self._not_written
        for row in rows:
            before = past[row.row_number]
            if before.is_active or _is_active(row, serials.get(row.serial_number, ())):
                already_active += 1
                continue
            refusal = self._explain_duplicate(row, in_chunk) or self._explain_conflict(row, serials, devices)
            if used := _explain_used_otp(before.used_in) or lacking.get(row.row_number):
                refusal = refusal or (used, RowFault.OTPS_USED)
            if refusal:
                reason, fault = refusal
                errors.append(RowError(row.row_number, reason, row.serial_number, fault))
            else:
                good.append(NewRecord(row, self._choose_counter(row, serials.get(row.serial_number, ()), before)))
                in_chunk |= {value: row.row_number for _, value in _identities(row)}
        return good, errors, already_active

    def _explain_duplicate(self, row: Row, in_chunk: dict[str, int]) -> Refusal | None:
        """Why a row repeats one that was split before and is not written yet; None if it does not. The file's own
        repeats are refused when it is read; here are those that rows of an export become once they are completed.
        `in_chunk`: row numbers by serial number or device."""
        for what, value in _identities(row):
            if value in in_chunk:
                return _refuse_repeated(what, in_chunk[value])
        return None

    def _explain_conflict(self, row: Row, serials: dict[str, list[Found]], devices: dict[str, Found]) -> Refusal | None:
        """Why an earlier record stands in the way of this row; None if none does."""
        for found in serials.get(row.serial_number, ()):
            if refusal := self._explain_by_serial_number(row, found):
                return refusal
        elsewhere = devices.get(row.device_id or "")
        return self._explain_in_progress("device", elsewhere) if elsewhere else None

    def _explain_by_serial_number(self, row: Row, found: Found) -> Refusal | None:
        """Why an earlier record of the same serial number stands in the way; None if it does not."""
        if found.status not in FINAL:
            return self._explain_in_progress("serial number", found)
        # A row that comes back may be for a new device, and have the OTPs that were meant for the old one.
        if row.device_id and found.device_id != row.device_id and not row.origin:
            return None
        if isinstance(row.otps, OtpPair) and self._find_used_otps(found) & {row.otps.first, row.otps.second}:
            used_in = f"{self._name_batch(found)!r} (row {found.row_number})"
            return _explain_used_otp(used_in) or "", RowFault.OTPS_USED
        return None

    def _choose_counter(self, row: Row, earlier: Iterable[Found], before: Past) -> int | None:
        """Choose the counter that a seed begins with; None for a pair. It goes on where earlier records of the same
        token ended: no counter is used twice."""
        if not isinstance(row.otps, Seed):
            return None
        used: list[int] = [
            found.next_counter for found in earlier if found.next_counter and self._is_same_seed(row.otps, found)
        ]
        return max([row.otps.counter, before.next_counter, *used])

    def _is_same_seed(self, seed: Seed, found: Found) -> bool:
        """Whether an earlier record had this seed. One that was erased, or whose key is gone, counts as the same."""
        earlier = self._earlier.open(found)
        return not isinstance(earlier, Seed) or earlier.secret == seed.secret

    def _explain_in_progress(self, what: str, found: Found) -> Refusal:
        if found.batch_id == self._batch_id:
            return _refuse_repeated(what, found.row_number)
        return (
            f"the {what} is in progress in batch {self._name_batch(found)!r} (row {found.row_number}):"
            " wait until it is finished, or cancel it there",
            RowFault.IN_PROGRESS,
        )

    def _name_batch(self, found: Found) -> str:
        return self._connection.scalars(select(Batch.name).where(Batch.id == found.batch_id)).one()

    def _find_used_otps(self, found: Found) -> set[Otp | None]:
        """The OTPs that an earlier record of this token has sent, or may have sent."""
        used: set[Otp | None] = set()
        pair = self._earlier.open(found)
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


def _refuse_repeated(what: str, row_number: int) -> Refusal:
    """Refuse a row whose serial number or device stands on an earlier row of its file."""
    return f"the {what} stands on row {row_number} of this file already: keep one of the two rows", RowFault.REPEATED


def _is_active(row: Row, earlier: Iterable[Found]) -> bool:
    """Whether the token of a row is active already: on the row's device, or with its person where it names none; or on
    any device, where the row comes back as it was and a later batch made it active."""
    active = [found for found in earlier if found.status == Status.ACTIVE]
    if any(found.device_id == row.device_id if row.device_id else _is_same_person(found, row) for found in active):
        return True
    origin = row.origin
    if origin is None or not any(found.batch_id > origin.batch_id for found in active):
        return False
    came_from = (origin.batch_id, origin.row_number, row.device_id)
    return any((found.batch_id, found.row_number, found.device_id) == came_from for found in earlier)


def _explain_used_otp(batch: str | None) -> str | None:
    """Why a row is refused one of whose OTPs was sent before; None if none was. `batch`: where, in words."""
    if batch is None:
        return None
    return f"an OTP of this row was sent already, in batch {batch}: press the token for two fresh, consecutive OTPs"


def _is_same_person(found: Found, row: Row) -> bool:
    """Whether an earlier record was for the person of a row: the first name that both have decides."""
    for name in _PERSON:
        theirs, ours = getattr(found, name), getattr(row, name)
        if theirs and ours:
            return fold_case(theirs) == fold_case(ours)
    return False


def _identities(row: Row) -> list[tuple[str, str]]:
    """What only one record in progress may have: the serial number, and the device if it is known."""
    device = [("device", row.device_id)] if row.device_id else []
    return [("serial number", row.serial_number), *device]
