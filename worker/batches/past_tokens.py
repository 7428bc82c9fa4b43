"""Recognises the tokens of purged batches when they are loaded again. Of those no serial number, device or OTP is kept,
only their fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy import Row as ResultRow

from models.batch import Batch
from models.encrypted import Keyring
from models.past_token import PastToken
from worker.intake import Row
from worker.vault.fingerprints import Fingerprints, load_fingerprints
from worker.vault.otp import Otp, OtpPair

_COLUMNS = (
    *(PastToken.serial_number, PastToken.device_id, PastToken.is_active, PastToken.next_counter),
    *(PastToken.otp1, PastToken.otp2, Batch.name, Batch.purged_at),
)


@dataclass(frozen=True, slots=True)
class Past:
    """What purged batches have of a row's token: the batch that made it active on the row's device, and the one in
    which an OTP of the row was sent, in words; and the lowest counter of which no OTP was sent, 0 if none was."""

    active_in: str | None = None
    used_in: str | None = None
    next_counter: int = 0


@dataclass(frozen=True, slots=True)
class PastBatch:
    """A purged batch that had a token, and whether it made it active."""

    name: str
    purged_at: datetime
    was_active: bool


class TokenPrints:
    """Makes the fingerprints of what is known of tokens of one environment."""

    def __init__(self, fingerprints: Fingerprints, environment_id: str) -> None:
        self._make = fingerprints.make
        self._environment_id = environment_id

    def of_serial_number(self, serial_number: str) -> str:
        return self._make("serial_number", self._environment_id, serial_number)

    def of_device(self, device_id: str) -> str:
        return self._make("device_id", self._environment_id, device_id.lower())

    def of_otp(self, serial_number: str, otp: Otp) -> str:
        return self._make("otp", self._environment_id, serial_number, otp.reveal())


class PastTokens:
    """Looks tokens of one environment up, within a transaction. Raises KeyIsGone."""

    def __init__(self, connection: Connection, keyring: Keyring, environment_id: str) -> None:
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id

    def find(self, rows: Sequence[Row]) -> dict[int, Past]:
        """Say of each row, by its number, what purged batches have of its token."""
        found = self._look_up([row.serial_number for row in rows])
        return {row.row_number: self._compare(row, found.get(row.serial_number, [])) for row in rows}

    def find_batches(self, serial_number: str) -> Iterator[PastBatch]:
        """Find the purged batches that had the token of this serial number."""
        for found in self._look_up([serial_number]).get(serial_number, []):
            yield PastBatch(found.name, found.purged_at, found.is_active)

    @cached_property
    def _prints(self) -> TokenPrints | None:
        """What makes the fingerprints of this environment's tokens; None if nothing was purged yet."""
        fingerprints = load_fingerprints(self._connection, self._keyring)
        return None if fingerprints is None else TokenPrints(fingerprints, self._environment_id)

    def _look_up(self, serial_numbers: Sequence[str]) -> dict[str, list[ResultRow[*tuple[Any, ...]]]]:
        """Find what is kept of the tokens with these serial numbers."""
        if self._prints is None or not serial_numbers:
            return {}
        by_print = {self._prints.of_serial_number(each): each for each in serial_numbers}
        kept = select(*_COLUMNS).join(Batch, Batch.id == PastToken.batch_id).order_by(PastToken.id)
        found: dict[str, list[ResultRow[*tuple[Any, ...]]]] = {}
        for each in self._connection.execute(kept.where(PastToken.serial_number.in_(by_print))):
            found.setdefault(by_print[each.serial_number], []).append(each)
        return found

    def _compare(self, row: Row, found: Sequence[ResultRow[*tuple[Any, ...]]]) -> Past:
        if self._prints is None or not found:
            return Past()
        device = self._prints.of_device(row.device_id) if row.device_id else None
        # OTPs that were meant for another device may go to this one.
        same = [each for each in found if device is None or each.device_id in (None, device)]
        otps = [row.otps.first, row.otps.second] if isinstance(row.otps, OtpPair) else []
        prints = {self._prints.of_otp(row.serial_number, otp) for otp in otps if otp is not None}
        return Past(
            active_in=_name_first(each for each in found if each.is_active and device and each.device_id == device),
            used_in=_name_first(each for each in same if prints & {each.otp1, each.otp2}),
            next_counter=max((each.next_counter or 0 for each in found), default=0),
        )


def _name_first(found: Iterator[ResultRow[*tuple[Any, ...]]]) -> str | None:
    """Name the batch of the first of these, in words; None if there is none."""
    return next((f"{each.name!r}, which was purged" for each in found), None)
