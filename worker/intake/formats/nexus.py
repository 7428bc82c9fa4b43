"""The format "Nexus": serial, secret and counter between colons, the latter two in Base64."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.formats.bare_csv import Cells, check_cells, check_not_empty, read_cells
from worker.intake.formats.first_lines import read_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError

# A row: serial, secret of 10 bytes or more, and counter.
ROW = re.compile(r"[^\s:,;]+:[A-Za-z0-9+/]{14,}=*:[A-Za-z0-9+/]*=*")

COUNTER_UNREADABLE = "the counter is not Base64 of at most 8 bytes: it is written like AA== for 0"


class Nexus:
    """Nexus' list of HOTP tokens: `serial:secret:counter`."""

    name = "nexus"
    title = "Nexus: serial:secret:counter, secret and counter in Base64"

    def is_format_of(self, head: bytes) -> bool:
        return any(map(ROW.fullmatch, read_first_lines(head)))

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, read_cells(file, ":"))
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(read_cells(file, ":"), partial(_read_token, file.hints), file.hints)


def _read_token(hints: Hints, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    serial, secret, counter = check_cells(row, 2, 3)
    encoding = hints.encoding or "base64"
    return Token(
        serial=serial, secret=secret, encoding=encoding, otp_type="hotp", counter=_read_counter(counter, serial)
    )


def _read_counter(text: str, serial: str) -> int:
    """Read a counter, its bytes in Base64 with the highest first. Raises RowRefused."""
    try:
        counter = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RowRefused(COUNTER_UNREADABLE, serial) from None
    if len(counter) > 8:
        raise RowRefused(COUNTER_UNREADABLE, serial)
    return int.from_bytes(counter, "big")
