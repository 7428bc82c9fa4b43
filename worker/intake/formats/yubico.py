"""The format "Yubico": the two logs that the YubiKey Personalization Tool writes of the keys that it configured.

https://github.com/Yubico/yubikey-personalization-gui
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from models.row_fault import RowFault
from worker.intake.formats.bare_csv import Cells, check_cells, check_not_empty, read_cells
from worker.intake.formats.first_lines import split_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.refusals import NOT_HOTP_OR_TOTP, RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError

# How the first cell of a row in the traditional format begins, in lower case; only the first are OATH tokens.
OATH, STATIC = "oath-hotp", "static password"
KINDS = (OATH, STATIC, "yubico otp", "challenge-response", "configuration")
# The first cell of a line that is no row: the tool was started.
LOGGING = "logging start"
# When a key was configured, in the traditional format, as the tool's language has it.
LOGGED_AT = re.compile(r"\d.*\d:\d\d.*")
# The time at which a key was configured, in the Yubico format, and the access code that protects it.
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?")
ACCESS_CODE = re.compile(r"(?:[0-9A-Fa-f]{12})?")
# The moving factor, which is the first counter of an OATH-HOTP key; a private id is longer.
MOVING_FACTOR = re.compile(r"[0-9]{1,7}")

# Places of the cells in the traditional format, counted from 0.
PUBLIC_ID, TRADITIONAL_SECRET, LENGTH, COUNTER = 3, 5, 11, 12
# Places of the cells in the Yubico format, counted from 0: a moving factor at KIND is OATH-HOTP.
KIND, SECRET, PROTECTED, CONFIGURED = 2, 3, 4, 5
# Cells of a row at least: in the traditional format one behind the counter, which shows that the counter is whole.
TRADITIONAL_CELLS, YUBICO_CELLS = COUNTER + 2, CONFIGURED + 1
# Cells of a row at most.
MOST = 40

JOINED = "the line says that the tool was started, and a row follows on it: put a line break before the row"


class Yubico:
    """Yubico's logs of configured keys. Only those in OATH-HOTP mode are tokens; the others are refused by row."""

    name = "yubico"
    title = "Yubico (traditional and Yubico format): the logs of the YubiKey Personalization Tool; OATH-HOTP only"

    def is_format_of(self, head: bytes) -> bool:
        return any(
            cells[0].lower() == LOGGING or _is_traditional(cells) or _is_yubico_format(cells)
            for cells in split_first_lines(head, ",")
        )

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, _read(file))
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(_read(file), partial(_read_token, file.hints), file.hints)


def _is_traditional(cells: list[str]) -> bool:
    """Whether these cells are a row of the traditional format."""
    return len(cells) > 1 and cells[0].lower().startswith(KINDS) and LOGGED_AT.fullmatch(cells[1]) is not None


def _is_yubico_format(cells: list[str]) -> bool:
    """Whether these cells are a row of the Yubico format."""
    if len(cells) <= CONFIGURED or not ACCESS_CODE.fullmatch(cells[PROTECTED]):
        return False
    return TIME.fullmatch(cells[CONFIGURED]) is not None


def _read(file: OpenFile) -> Iterator[tuple[int, Cells]]:
    """Yield line and cells of every row, without the lines that say that the tool was started. Raises UnusableFile."""
    return (row for row in read_cells(file, ",") if not row[1] or row[1][0].lower() != LOGGING or len(row[1]) > 2)


def _read_token(hints: Hints, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    kind = row[0].lower() if row else ""
    if kind == LOGGING:
        raise RowRefused(JOINED, fault=RowFault.ROW_UNREADABLE)
    is_traditional = kind.startswith(KINDS)
    cells = check_cells(row, TRADITIONAL_CELLS if is_traditional else YUBICO_CELLS, MOST, PUBLIC_ID)
    if is_traditional:
        # Of a static password, the cell that is a public id elsewhere holds a part of it.
        serial = "" if kind.startswith(STATIC) else cells[PUBLIC_ID]
        secret, digits, counter = cells[TRADITIONAL_SECRET], cells[LENGTH], cells[COUNTER]
        is_oath = kind == OATH
    else:
        serial, secret, digits, counter = cells[0], cells[SECRET], "", cells[KIND]
        is_oath = MOVING_FACTOR.fullmatch(counter) is not None
    if not is_oath:
        raise RowRefused(NOT_HOTP_OR_TOTP, serial)
    encoding = hints.encoding or "hex"
    return Token(serial=serial, secret=secret, encoding=encoding, otp_type="hotp", digits=digits, counter=counter)
