"""The format "eToken .dat": SafeWord's and SafeNet's list of tokens, one block of lines `key: value` a token. A blank
line, or the next `dn:`, ends a block; its number is that of its first line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.csv_rows import OpenRow
from worker.intake.files import Hints, OpenFile, read_first_lines, read_lines
from worker.intake.rows import Row, RowError, RowRefused, UnusableFile
from worker.intake.tokens import Token, make_rows

# Lines of a block at most; a real one has six.
MAX_LINES = 100
# What a block holds, by its keys in lower case: the serial number, and parameters with semicolons between them.
SERIAL = "sccauthenticatorid"
DATA = "scctokendata"


def is_etoken_dat(head: bytes) -> bool:
    """Tell a line that begins as one of a block does."""
    lines = (line.lower().replace(" ", "") for line in read_first_lines(head))
    return any(line.startswith((SERIAL, DATA, f"dn:{SERIAL}")) for line in lines)


def read_etoken_dat(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Return the columns that an export repeats, and the rows."""
    return ["serial", "otp_type"], make_rows(_read_blocks(file), partial(_read_token, file.hints), file.hints)


def _read_blocks(file: OpenFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the lines of every block, without comments. Raises UnusableFile."""
    block: list[str] = []
    first = 0
    line = ""
    for number, line in enumerate(read_lines(file), 1):
        text = line.strip()
        if text.startswith("#"):
            continue
        if block and (not text or text.lower().startswith("dn:")):
            yield first, block
            block = []
        if text:
            first = first if block else number
            block.append(text)
        if len(block) > MAX_LINES:
            cure = "See whether it is the right file: a blank line ends each token's block"
            raise UnusableFile(file.path, f"a block has more than {MAX_LINES} lines", cure, row_number=first)
    if block:
        yield first, block if line.endswith(("\n", "\r")) else OpenRow(block)


def _read_token(hints: Hints, block: list[str]) -> Token:
    """Read the token in a block of lines. Raises RowRefused."""
    pairs = [line.partition(":") for line in block]
    keys = [key.strip().lower() for key, _, _ in pairs]
    if keys.count(SERIAL) > 1 or keys.count(DATA) > 1:
        raise RowRefused("the block holds more than one token: put a blank line between them")
    values = {key: value.strip() for key, (_, _, value) in zip(keys, pairs, strict=True)}
    serial = values.get(SERIAL, "")
    if not all(colon for _, colon, _ in pairs) or DATA not in values:
        cure = "see whether it was cut off, and ask the vendor for the file again"
        raise RowRefused(f"the block is not made of lines `key: value`: {cure}", serial)
    parts = (part.partition("=") for part in values[DATA].split(";"))
    said = {name.strip().lower(): value.strip() for name, _, value in parts}
    if not said.get("sccpwlen") and hints.digits is None:
        raise RowRefused(
            "the block does not say how many digits an OTP has (sccPwLen): see whether it was cut off, and ask the "
            "vendor for the file again, or say it, by --digits",
            serial,
        )
    mode = said.get("sccmode", "").upper()
    if mode == "T":
        raise RowRefused(
            "the token is time-based and counts its time from 2000-01-01, and PingOne counts from 1970-01-01 without a "
            "setting for that: every OTP would be wrong, so leave the token out",
            serial,
        )
    if mode != "E":
        reason = "sccMode is neither E (event) nor T (time): PingOne takes no other tokens, so leave it out"
        raise RowRefused(reason, serial)
    return Token(
        serial=serial,
        secret=said.get("scckey", ""),
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        digits=said.get("sccpwlen"),
        hash_algorithm=said.get("crypto"),
    )
