"""Finds the rows that must not become records, because their token or device is in the database already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, TextClause, func, select, text, true
from sqlalchemy import Row as ResultRow
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring
from models.person import NAMES, PERSON
from models.record import Record
from models.record_indexes import NOT_FINAL
from models.record_states import FINAL, Status
from models.row_fault import RowFault
from worker.intake import Row, RowError
from worker.pingone.users import fold_case
from worker.vault.otps import Otp, OtpPair, OtpSource, Seed, open_otps

Found: TypeAlias = "ResultRow[*tuple[Any, ...]]"

_COLUMNS = (
    Record.serial_number,
    Record.device_id,
    Record.user_id,
    *(getattr(Record, name) for name in NAMES),
    Record.status,
    Record.row_number,
    Record.batch_id,
    Record.otps,
    Record.otp1_posts,
    Record.otp2_posts,
    Record.next_counter,
)


# Why a row is refused: in a sentence, and in a word.
Refusal: TypeAlias = "tuple[str, RowFault]"


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A row that may be loaded. `next_counter`: the first counter that its seed makes an OTP from. It lies beyond the
    file's where earlier records of the token have used some up. None for a pair of OTPs."""

    row: Row
    next_counter: int | None = None


class Conflicts:
    """Looks up the records of one environment, and compares rows with them, within a transaction. `batch_id`: the batch
    of the rows; None where it is none yet. Unless they are written (`is_written`), they are remembered here instead."""

    def __init__(
        self,
        connection: Connection,
        keyring: Keyring,
        environment_id: str,
        batch_id: int | None = None,
        *,
        is_written: bool = False,
    ) -> None:
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id
        self._batch_id = batch_id
        self._is_written = is_written
        # Row numbers by serial number or device, of rows that may be loaded and are not written.
        self._not_written: dict[str, int] = {}

    def split(self, rows: Sequence[Row]) -> tuple[list[NewRecord], list[RowError]]:
        """Part these rows into those that may become records, and the reasons why others may not. Rows of earlier calls
        count as records."""
        serials = self.find_by_serial_number(rows)
        # In the words of the partial unique index, without which the whole table is read.
        known = [row.device_id for row in rows if row.device_id]
        in_progress = self._look_up(Record.device_id, known, text(NOT_FINAL), text("device_id <> ''"))
        devices = {found.device_id: found for found in in_progress}
        good: list[NewRecord] = []
        errors: list[RowError] = []
        in_chunk: dict[str, int] = {} if self._is_written else self._not_written
        for row in rows:
            earlier = serials.get(row.serial_number, ())
            refusal = (
                self._explain_active(row, earlier)
                or self._explain_duplicate(row, in_chunk)
                or self._explain_conflict(row, serials, devices)
            )
            if refusal:
                reason, fault = refusal
                errors.append(RowError(row.row_number, reason, row.serial_number, fault))
            else:
                good.append(NewRecord(row, self._choose_counter(row, earlier)))
                in_chunk |= {value: row.row_number for _, value in _identities(row)}
        return good, errors

    def find_by_serial_number(self, rows: Sequence[Row]) -> dict[str, list[Found]]:
        """Find the records with the serial numbers of these rows."""
        by_serial: dict[str, list[Found]] = {}
        for found in self._look_up(Record.serial_number, [row.serial_number for row in rows]):
            by_serial.setdefault(found.serial_number, []).append(found)
        return by_serial

    def open(self, found: Found) -> OtpSource | None:
        """Decrypt the pair or the seed of an earlier record; None if it was erased, or its key is gone."""
        if found.otps is None:
            return None
        try:
            return open_otps(self._keyring, found.otps, found.batch_id, found.row_number)
        except DecryptionError:
            return None

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

    def _explain_active(self, row: Row, earlier: Iterable[Found]) -> Refusal | None:
        """Why nothing is left to do for a row: another batch made its token active, on the row's device, or with its
        person where it names none; None if none did."""
        active = [found for found in earlier if found.status == Status.ACTIVE]
        same = [found for found in active if _is_same_device_or_person(found, row)]
        if not same:
            return None
        batch = self._name_batch(same[0])
        return f"its token is active already, in batch {batch!r}: nothing is left to do", RowFault.ACTIVE_ELSEWHERE

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
        # OTPs that were meant for another device may go to this one.
        is_other_device = row.device_id and found.device_id != row.device_id
        if found.batch_id == self._batch_id or is_other_device or not isinstance(row.otps, OtpPair):
            return None
        if find_used_otps(found, self.open(found)) & {row.otps.first, row.otps.second}:
            return _refuse_used_otp(f"{self._name_batch(found)!r} (row {found.row_number})")
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
        earlier = self.open(found)
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


def find_used_otps(found: Any, source: OtpSource | None) -> frozenset[Otp]:
    """Find the OTPs of a record's pairs that were sent, or may have been. `source`: what the record has now; where it
    was erased nobody can tell, and PingOne's answer will; a seed makes other OTPs for each post."""
    if not isinstance(source, OtpPair):
        return frozenset()
    # By its posts and not by its state: an OTP that a read found unused is unsent again, but it may go only once more,
    # and with that record.
    posted = ((source.first, found.otp1_posts), (source.second, found.otp2_posts))
    return source.spent | {otp for otp, posts in posted if otp and posts}


def _refuse_repeated(what: str, row_number: int) -> Refusal:
    """Refuse a row whose serial number or device stands on an earlier row of its file."""
    return f"the {what} stands on row {row_number} already: keep one of the two rows", RowFault.REPEATED


def _is_same_device_or_person(found: Found, row: Row) -> bool:
    """Whether an earlier record was for the device of a row, or for its person where the row names no device."""
    return found.device_id == row.device_id if row.device_id else _is_same_person(found, row)


def _refuse_used_otp(batch: str) -> Refusal:
    """Refuse a row one of whose OTPs was sent before. `batch`: where, in words."""
    reason = f"an OTP of this row was sent already, in batch {batch}: press the token for two fresh, consecutive OTPs"
    return reason, RowFault.OTPS_USED


def _is_same_person(found: Found, row: Row) -> bool:
    """Whether an earlier record was for the person of a row: the first name that both have decides."""
    for name in PERSON:
        theirs, ours = getattr(found, name), getattr(row, name)
        if theirs and ours:
            return fold_case(theirs) == fold_case(ours)
    return False


def _identities(row: Row) -> list[tuple[str, str]]:
    """What only one record in progress may have: the serial number, and the device if it is known."""
    device = [("device", row.device_id)] if row.device_id else []
    return [("serial number", row.serial_number), *device]
