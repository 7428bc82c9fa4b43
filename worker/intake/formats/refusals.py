"""Refused rows of seed files: the exception that refuses one, and sentences that several formats have in common. None
quotes a cell, since any may hold a seed."""

from __future__ import annotations

from models.row_fault import RowFault
from worker.intake.formats.serials import find_nameable_serial
from worker.intake.rows import RowError

QUOTATION_MARKS = (
    "a quotation mark is never closed, or stands inside a quoted value: remove it, or double it there; "
    "no value may hold a line break"
)
NOT_HOTP_OR_TOTP = (
    "the token is neither HOTP nor TOTP, and PingOne takes no other OATH tokens (no OCRA, no static passwords, "
    "no Yubico OTP): leave it out"
)


class RowRefused(Exception):
    """A row is refused; the message is the reason of the RowError that is made of this, `serial` what stands in the
    row for a serial number, `fault` the kind of the reason."""

    def __init__(self, reason: str, serial: str = "", fault: RowFault = RowFault.SEED_UNFIT) -> None:
        super().__init__(reason)
        self.serial = serial
        self.fault = fault


def make_error(row_number: int, reason: str, serial: str, fault: RowFault) -> RowError:
    """Make the error of a row; the serial number is named only if it cannot be a seed."""
    return RowError(row_number, reason, find_nameable_serial(serial), fault)
