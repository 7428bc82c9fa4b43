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
