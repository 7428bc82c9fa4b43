"""The format "OATH CSV": serial, seed, type, digits, and counter or time step; of privacyIDEA, LinOTP and NetIQ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import chain

from worker.intake.formats.bare_csv import BareLayout, Cells, check_cells, check_not_empty, split_cells
from worker.intake.formats.first_lines import read_first_lines, split_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.otp_pairs.header import is_blank
from worker.intake.formats.secrets import HEX, looks_like_secret
from worker.intake.formats.tokens import OTP_TYPES, Token, make_rows
from worker.intake.lines import read_lines
from worker.intake.rows import Row, RowError, UnusableFile
from worker.vault.seed import HashAlgorithm

# The first line of version 2, in which three columns stand before the serial: username, resolver and realm.
# Excel adds commas to it.
VERSION = re.compile(r"#\s*version\s*:\s*([^\s,;]+)", re.IGNORECASE)
USER_COLUMNS = ("username", "resolver", "realm")
# Cells of a token: serial, secret, type, digits, counter or time step, and LinOTP's hash.
MOST = 6
# Seconds of a time step where the file does not say it.
USUAL_STEP = 30
# What privacyIDEA takes for the hash of a seed of so many hexadecimal digits; SHA-1 for all others.
HASH_BY_LENGTH: dict[int, HashAlgorithm] = {64: "sha256", 128: "sha512"}


class OathCsv:
    """OATH CSV. It is told by its first line, if that names version 2, or by a type in a row's third cell."""

    name = "oath-csv"
    title = "OATH CSV (privacyIDEA, LinOTP, NetIQ): serial, hexadecimal seed, type, digits, counter or time step"

    def is_format_of(self, head: bytes) -> bool:
        first = read_first_lines(head)[:1]
        rows = split_first_lines(head, ",")
        return any(map(VERSION.match, first)) or any(map(_names_type, rows)) or any(map(_names_hotp_or_totp, rows[:1]))

    def read_columns(self, file: OpenFile) -> list[str]:
        is_with_users, rows = _read(file)
        check_not_empty(file, rows)
        return [*(USER_COLUMNS if is_with_users else ()), "serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        is_with_users, rows = _read(file)
        return make_rows(rows, partial(_read_token, file.hints, is_with_users), file.hints)


def _names_type(cells: list[str]) -> bool:
    """Whether the third cell of a row is a word such as hotp."""
    return len(cells) > 2 and looks_like_secret(cells[1]) and cells[2].replace("-", "").isalpha()


def _names_hotp_or_totp(cells: list[str]) -> bool:
    """Whether a row names its type, though its secret is shorter than any that is read."""
    return len(cells) > 2 and HEX.fullmatch(cells[1]) is not None and cells[2].lower() in OTP_TYPES


def _read(file: OpenFile) -> tuple[bool, Iterator[tuple[int, Cells]]]:
    """Read whether the rows begin with the columns of a user, and their cells. Raises UnusableFile."""
    lines = read_lines(file.path, file.stream, file.digest)
    blank, first = next(((n, line) for n, line in enumerate(lines) if not is_blank(line)), (0, ""))
    found = VERSION.match(first.strip())
    version = found.group(1) if found else "1"
    if version not in ("1", "2"):
        cure = "Export it again as version 1 or 2"
        raise UnusableFile(file.path, "is OATH CSV of a version that is not known here", cure, row_number=blank + 1)
    return version == "2", split_cells(chain([first], lines), BareLayout(",", blank))


def _read_token(hints: Hints, is_with_users: bool, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    before = len(USER_COLUMNS) if is_with_users else 0
    cells = check_cells(row, before + 2, before + MOST, before)
    users = dict(zip(USER_COLUMNS, cells[:before], strict=False))
    serial, secret, otp_type, digits, counter_or_step, hash_algorithm = cells[before:]
    return Token(
        serial=serial,
        secret=secret,
        encoding=hints.encoding or "hex",
        otp_type=otp_type,
        usual_type="hotp",
        digits=digits,
        time_step=counter_or_step,
        usual_step=USUAL_STEP,
        counter=counter_or_step,
        hash_algorithm=hash_algorithm,
        usual_hash=HASH_BY_LENGTH.get(len(secret), "sha1"),
        username=users.pop("username", None),
        extra={name: value for name, value in users.items() if value},
    )
