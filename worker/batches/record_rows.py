"""Turns a row of a shipment into a row of the table `record`: which columns a load writes, and their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from models.encrypted import Keyring, identify_row
from worker.intake import COLUMNS, Row
from worker.vault.otp import OtpPair
from worker.vault.seed import Seed

# Ids that may have to be found yet.
_IDS = ("user_id", "device_id")
# Columns that are written as the file has them.
_SAME = ("row_number", *(column.attribute for column in COLUMNS if column.attribute not in _IDS))


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A row that may be loaded. `next_counter`: the first counter that its seed makes an OTP from. It lies beyond the
    file's where earlier records of the token have used some up. None for a pair of OTPs."""

    row: Row
    next_counter: int | None = None


class RecordRows:
    """Builds the rows of one batch. `totp_max_age`: how long after its generation a TOTP pair is still sent."""

    def __init__(self, keyring: Keyring, batch_id: int, totp_max_age: timedelta) -> None:
        self._keyring = keyring
        self._batch_id = batch_id
        self._max_age = totp_max_age
        self._pick: Callable[[Row], tuple[Any, ...]] = attrgetter(*_SAME)
        # What else is written, by column, and how it follows from the row.
        self._derived: dict[str, Callable[[Row], Any]] = {
            "user_id": lambda row: row.user_id or "",
            "device_id": lambda row: row.device_id or "",
            # A device is made of a token that is there.
            "is_in_inventory": lambda row: row.device_id is not None,
            "extra": lambda row: row.extra or None,
            "otp_expires_at": self._expires_at,
            "has_second_otp": lambda row: not isinstance(row.otps, OtpPair) or row.otps.second is not None,
            "first_counter": _find_first_counter,
            "otps": self._seal,
        }
        # The names of the columns, in the order of `values`.
        self.columns = ("next_counter", *_SAME, *self._derived)

    def values(self, record: NewRecord) -> tuple[Any, ...]:
        """The values of `columns` for this record."""
        row = record.row
        return (record.next_counter, *self._pick(row), *(derive(row) for derive in self._derived.values()))

    def _expires_at(self, row: Row) -> datetime | None:
        """When a TOTP pair is too old to be sent; None for HOTP, which lasts."""
        return row.generated_at + self._max_age if row.otp_type == "totp" and row.generated_at else None

    def _seal(self, row: Row) -> bytes:
        assert row.otps is not None, "a row without OTPs is refused before"  # noqa: S101
        return self._keyring.seal(row.otps.to_plaintext(), identify_row(self._batch_id, row.row_number))


def _find_first_counter(row: Row) -> int | None:
    """The counter at which the token itself stands; None for a pair, which was read off the token, and for TOTP."""
    return row.otps.counter if isinstance(row.otps, Seed) and row.otp_type == "hotp" else None
