"""Completes the rows of an export that come back, from the records that they name: what a person deleted in the file,
and the seed or the unused OTPs, which no export has."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection, select
from sqlalchemy import Row as ResultRow

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring
from models.record import Record
from models.record_states import OtpState, OtpType
from models.row_fault import RowFault
from worker.batches.refused_rows import find_refused
from worker.intake import ORIGIN, Origin, Row, RowError, explain_missing_ids
from worker.vault.otp import OtpPair
from worker.vault.otp_source import OtpSource
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

Found: TypeAlias = "ResultRow[*tuple[Any, ...]]"

# Digits as many as an OTP has.
_MAY_BE_OTP = re.compile(r"[0-9]{6}(?:[0-9]{2})?")
# What a row takes from its earlier record where the file has nothing.
_FILLED = ("user_id", "device_id", "username", "email", "external_id", "lot")
_COLUMNS = (
    *(getattr(Record, name) for name in _FILLED),
    *(Record.batch_id, Record.row_number, Record.serial_number, Record.otp_type, Record.generated_at, Record.otps),
    *(Record.otp1_state, Record.otp1_posts, Record.otp2_state, Record.otp2_posts, Record.next_counter),
)

NO_RECORD = (
    f"{ORIGIN} names no record of this environment: load the file into the environment and the database that it was"
    " exported from, or empty that cell and write fresh OTPs into the row"
)
OTHER_TOKEN = (
    f"{ORIGIN} names another token than serial: a column was sorted or filled without the others, or the serial was"
    " changed; take the row from the export again"
)
OTHER_TYPE = (
    "otp_type is missing or says hotp, and the token was exported as totp: put the column back, with totp and the"
    f" generated_at of the fresh OTPs; or empty {ORIGIN} if it was wrong before"
)
OLD_TIME = "generated_at is that of the earlier pair: write down when the fresh OTPs were produced"
NO_FRESH_OTPS = (
    "otp1 and otp2 are empty, and those of the earlier load cannot go again: press the token for two fresh,"
    " consecutive OTPs and write them there"
)
NO_SEED = (
    "the seed of this token was erased when it became active, and this is another device: load the token from the"
    " vendor's file again, with a list of those who get theirs anew (--assign FILE --only-assigned)"
)
PURGED = (
    "otp1 and otp2 are empty, and the batch of this row was purged, with its OTPs and seeds: press the token for two"
    " fresh, consecutive OTPs and write them there, or load it from the vendor's file"
)
NOT_KEPT = (
    "otp1 and otp2 are empty, and of a row that was refused none are kept: press the token for two fresh, consecutive"
    " OTPs and write them there; a token with a seed is loaded from the vendor's file again"
)
KEY_IS_GONE = "the key that encrypted its OTPs or seed is not among OATHBULK_ENCRYPTION_KEYS: add it behind the first"


@dataclass(frozen=True, slots=True)
class Completed:
    """Rows as far as they could be completed, and those that are refused. `lacking`: why a row has no OTPs, by its
    number; unless its token is active already, it is refused for that. `mended`: those that had been refused before."""

    rows: list[Row] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    lacking: dict[int, str] = field(default_factory=dict)
    mended: list[Row] = field(default_factory=list)


class Returning:
    """Looks up the records that rows were exported from, in one environment and within the load's transaction."""

    def __init__(self, connection: Connection, keyring: Keyring, environment_id: str) -> None:
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id

    def complete(self, rows: Sequence[Row], *, may_pair: bool) -> Completed:
        """Complete the rows that have an origin; the others stay as they are. `may_pair`: a row needs no device."""
        origins = {row.origin for row in rows if row.origin}
        earlier, purged = self._look_up(origins), self._find_purged({origin.batch_id for origin in origins})
        refused = find_refused(self._connection, self._environment_id, origins - earlier.keys())
        completed = Completed()
        for row in rows:
            if row.origin is None:
                completed.rows.append(row)
                continue
            found = earlier.get(row.origin)
            if row.origin.batch_id in purged:
                row = _take_as_new(row, completed.lacking)
            elif found is None and row.origin in refused:
                if row.otps is None:
                    completed.lacking[row.row_number] = NOT_KEPT
                else:
                    completed.mended.append(row)
            elif error := _find_error(row, found):
                completed.errors.append(error)
                continue
            elif found:
                row = self._complete(row, found, completed.lacking)
            if missing := explain_missing_ids(row, may_pair=may_pair):
                completed.errors.append(RowError(row.row_number, missing, row.serial_number, RowFault.PERSON_UNFIT))
            else:
                completed.rows.append(row)
        return completed

    def _find_purged(self, batch_ids: Collection[int]) -> frozenset[int]:
        """Find out which of these batches were purged."""
        purged = select(Batch.id).where(Batch.id.in_(batch_ids), Batch.purged_at.is_not(None))
        mine = purged.where(Batch.environment_id == self._environment_id)
        return frozenset(self._connection.scalars(mine)) if batch_ids else frozenset()

    def _look_up(self, origins: Iterable[Origin]) -> dict[Origin, Found]:
        """Find the records of these origins."""
        numbers: dict[int, list[int]] = {}
        for origin in origins:
            numbers.setdefault(origin.batch_id, []).append(origin.row_number)
        mine = select(*_COLUMNS).where(Record.environment_id == self._environment_id)
        return {
            Origin(found.batch_id, found.row_number): found
            for batch_id, some in numbers.items()
            for found in self._connection.execute(mine.where(Record.batch_id == batch_id, Record.row_number.in_(some)))
        }

    def _complete(self, row: Row, found: Found, lacking: dict[int, str]) -> Row:
        """Fill in what the file does not have. The serial number is the record's: a spreadsheet may have taken its
        leading zeros."""
        # An id that was not found yet is the empty text.
        missing: dict[str, Any] = {name: getattr(found, name) or None for name in _FILLED if getattr(row, name) is None}
        row = replace(row, serial_number=found.serial_number, **missing)
        if row.otps is not None:
            return row
        otps = self._take_otps(found)
        if isinstance(otps, str):
            lacking[row.row_number] = otps
            return row
        return replace(row, otps=otps, otp_type=found.otp_type, generated_at=found.generated_at)

    def _take_otps(self, found: Found) -> OtpSource | str:
        """Take the seed of the earlier record, or its pair of OTPs if neither was sent; or say why there is nothing to
        take. The counters that the seed has used are skipped as those of any earlier record are, by Conflicts."""
        try:
            source = self._open(found)
        except DecryptionError:
            return KEY_IS_GONE
        if isinstance(source, Seed):
            return source
        if source and _is_unused(found):
            return source
        return NO_FRESH_OTPS if found.next_counter is None else NO_SEED

    def _open(self, found: Found) -> OtpSource | None:
        """Decrypt the pair or the seed of an earlier record; None if it was erased. Raises DecryptionError."""
        if found.otps is None:
            return None
        return open_otps(self._keyring, found.otps, found.batch_id, found.row_number)


def _take_as_new(row: Row, lacking: dict[int, str]) -> Row:
    """Take a row whose batch was purged as one that never was here: nothing is left to complete it from."""
    if row.otps is None:
        lacking[row.row_number] = PURGED
    return replace(row, origin=None)


def _find_error(row: Row, found: Found | None) -> RowError | None:
    """Why a row cannot come back as the record that it names; None if it can."""
    # A serial number that is not the record's may be an OTP, since a row that comes back may have its own column empty.
    nameable = None if row.otps is None and _MAY_BE_OTP.fullmatch(row.serial_number) else row.serial_number
    if found is None:
        return RowError(row.row_number, NO_RECORD, nameable, RowFault.ORIGIN_UNFIT)
    if row.serial_number.lower() not in (found.serial_number.lower(), found.serial_number.lstrip("0").lower()):
        return RowError(row.row_number, OTHER_TOKEN, nameable, RowFault.ORIGIN_UNFIT)
    if isinstance(row.otps, OtpPair) and found.otp_type == OtpType.TOTP:
        if row.otp_type == "hotp":
            return RowError(row.row_number, OTHER_TYPE, row.serial_number, RowFault.OTPS_UNFIT)
        if row.generated_at == found.generated_at:
            return RowError(row.row_number, OLD_TIME, row.serial_number, RowFault.OTPS_UNFIT)
    return None


def _is_unused(found: Found) -> bool:
    """Whether the pair of a record never went out, and still may: an old pair of TOTP is of no use."""
    states, posts = {found.otp1_state, found.otp2_state}, found.otp1_posts + found.otp2_posts
    return states == {OtpState.UNSENT} and not posts and found.otp_type == OtpType.HOTP
