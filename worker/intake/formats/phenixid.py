"""The format "PhenixID": rows of three, four or seven values between semicolons.

https://phenixid.screenstepslive.com/s/19332/m/72021/l/785550-import-hardware-tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.formats.bare_csv import Cells, check_cells, check_not_empty, read_cells
from worker.intake.formats.first_lines import split_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.secrets import looks_like_secret
from worker.intake.formats.tokens import OTP_TYPES, Token, make_rows, read_number
from worker.intake.rows import Row, RowError

# Cells of a TOTP token: its type, serial, hash, secret, epoch, time step and digits.
TOTP_CELLS = 7
# Cells of a HOTP token: its type, which may be missing, serial, secret and counter.
HOTP_CELLS = 4

OTHER_EPOCH = (
    "the token counts its time from another moment than 1970-01-01 (its epoch is not 0), and PingOne has no setting "
    "for that: leave it out"
)


class PhenixId:
    """PhenixID's list of hardware tokens: `HOTP;serial;secret;counter`, `serial;secret;counter`, or
    `TOTP;serial;hash;secret;epoch;step;digits`."""

    name = "phenixid"
    title = "PhenixID: values between semicolons, such as HOTP;serial;secret;counter"

    def is_format_of(self, head: bytes) -> bool:
        return any(_is_token(row) for row in split_first_lines(head, ";"))

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, read_cells(file, ";"))
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(read_cells(file, ";"), partial(_read_token, file.hints), file.hints)


def _is_token(cells: list[str]) -> bool:
    """Whether these cells have the form of a token."""
    if cells[0].lower() in OTP_TYPES:
        return len(cells) >= HOTP_CELLS - 1
    return len(cells) == HOTP_CELLS - 1 and looks_like_secret(cells[1]) and cells[2].isdigit()


def _read_token(hints: Hints, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    is_typeless = len(row or ()) == HOTP_CELLS - 1 and row is not None and row[0].lower() not in OTP_TYPES
    is_totp = row is not None and row[0].lower() == "totp"
    cells = check_cells(row, TOTP_CELLS if is_totp else HOTP_CELLS - 1, TOTP_CELLS, 0 if is_typeless else 1)
    encoding = hints.encoding or "hex"
    if is_typeless:
        serial, secret, counter = cells[:3]
        return Token(serial=serial, secret=secret, encoding=encoding, otp_type="hotp", counter=counter)
    if not is_totp:
        serial, secret, counter = cells[1:HOTP_CELLS]
        return Token(serial=serial, secret=secret, encoding=encoding, otp_type=cells[0], counter=counter)
    _, serial, hash_algorithm, secret, epoch, step, digits = cells
    if read_number(epoch, "the epoch"):
        raise RowRefused(OTHER_EPOCH, serial)
    return Token(
        serial=serial,
        secret=secret,
        encoding=encoding,
        otp_type="totp",
        hash_algorithm=hash_algorithm,
        time_step=step,
        digits=digits,
    )
