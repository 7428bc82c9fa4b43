"""The format "Entra CSV": what Microsoft Entra takes an upload of hardware tokens in, and what vendors make of it.

https://learn.microsoft.com/en-us/entra/identity/authentication/concept-authentication-oath-tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.formats.bare_csv import Cells, check_not_empty
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.header_csv import VendorHeader, find_names, read_table
from worker.intake.formats.otp_pairs.columns import normalise
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError

# What the columns mean, by their names without case, blanks, `_` and `-`.
MEANINGS = {
    "upn": "username",
    "serialnumber": "serial",
    "serial": "serial",
    "secretkey": "secret",
    "timeinterval": "step",
    "timeintervalinseconds": "step",
    "hashfunction": "hash",
}


# Columns that vendors add, and in which a token may be called HOTP.
TYPE_NAMES = frozenset({"type", "otptype", "tokentype"})
NOT_TOTP = (
    "is called HOTP, and this kind of file has TOTP tokens alone: write it as serial,seed,hotp,digits,counter without "
    "a header, or ask the vendor for PSKC"
)


class Entra:
    """Entra's CSV of TOTP tokens, with a header, and secrets in Base32."""

    name = "entra"
    title = "Entra CSV (Microsoft, Deepnet): a header with serial number, secret key and time interval; Base32"

    def is_format_of(self, head: bytes) -> bool:
        return "secretkey" in find_names(head, MEANINGS)

    def read_columns(self, file: OpenFile) -> list[str]:
        header, rows = read_table(file, MEANINGS)
        check_not_empty(file, rows)
        return header.kept_names

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        header, rows = read_table(file, MEANINGS)
        return make_rows(rows, partial(_read_token, file.hints, header), file.hints)


def _read_token(hints: Hints, header: VendorHeader, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    known, own = header.pick(row)
    said = [value.lower() for name, value in own.items() if normalise(name) in TYPE_NAMES]
    if hints.otp_type == "hotp" or any("hotp" in value for value in said):
        raise RowRefused(NOT_TOTP, known["serial"])
    return Token(
        serial=known["serial"],
        secret=known["secret"],
        encoding=hints.encoding or "base32",
        otp_type="totp",
        time_step=known.get("step"),
        hash_algorithm=known.get("hash"),
        username=known.get("username"),
        extra=own,
    )
