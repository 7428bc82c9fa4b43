"""The format "RCDevs": the inventory CSV of OpenOTP, whose column Data holds pairs of a name and a value in Base64.

https://docs.rcdevs.com/howtos/tokens_seed_conversion/seeds/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.formats.bare_csv import Cells, check_not_empty
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.header_csv import VendorHeader, find_names, read_table
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError

# What the columns mean, by their names without case and blanks.
MEANINGS = {"type": "type", "reference": "serial", "description": "description", "data": "data"}

DATA_UNREADABLE = (
    "the column Data is not made of pairs such as TokenType=VE9UUA==, with commas between them: "
    "see whether the row was cut off, and keep the column in quotation marks"
)
DATA_CUT_OFF = (
    "the column Data does not say how many digits an OTP has (OTPLength): see whether the row was cut off, and ask for "
    "the file again, or say it, by --digits"
)


class RcDevs:
    """RCDevs' inventory: a header with Type, Reference, Description and Data."""

    name = "rcdevs"
    title = "RCDevs OpenOTP: a header with Type, Reference, Description and Data"

    def is_format_of(self, head: bytes) -> bool:
        return {"reference", "data"} <= find_names(head, MEANINGS)

    def read_columns(self, file: OpenFile) -> list[str]:
        header, rows = read_table(file, MEANINGS)
        check_not_empty(file, rows)
        return ["serial", "otp_type", *(name for name in header.names if name.lower() == "description")]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        header, rows = read_table(file, MEANINGS)
        return make_rows(rows, partial(_read_token, file.hints, header), file.hints)


def _read_token(hints: Hints, header: VendorHeader, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    known, _ = header.pick(row)
    serial, data = known["serial"], _read_pairs(known["data"], known["serial"])
    if not data.get("otplength") and hints.digits is None:
        raise RowRefused(DATA_CUT_OFF, serial)
    # The state of a HOTP token is its counter.
    return Token(
        serial=serial,
        secret=data.get("tokenkey", ""),
        encoding=hints.encoding or "base64",
        otp_type=_decode(data.get("tokentype", ""), serial),
        digits=_decode(data.get("otplength", ""), serial),
        time_step=_decode(data.get("totptimestep", ""), serial),
        counter=_decode(data.get("tokenstate", ""), serial),
        extra={name: known["description"] for name in header.names if name.lower() == "description"},
    )


def _read_pairs(data: str, serial: str) -> dict[str, str]:
    """Read the pairs of the column Data, by their names in lower case; a value may end with equals signs itself. Raises
    RowRefused."""
    pairs = [pair.partition("=") for pair in data.split(",") if pair.strip()]
    if not pairs or not all(sign for _, sign, _ in pairs):
        raise RowRefused(DATA_UNREADABLE, serial)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _decode(value: str, serial: str) -> str:
    """Decode the text of a value. Raises RowRefused."""
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise RowRefused(DATA_UNREADABLE, serial) from None
