"""The format "eToken .dat": SafeWord's and SafeNet's list of tokens, blocks of lines `key: value`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.cut_off import OpenRow
from worker.intake.formats.bare_csv import check_not_empty
from worker.intake.formats.first_lines import read_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.lines import read_lines
from worker.intake.rows import Row, RowError, UnusableFile

# Lines of a block at most; a real one has six.
MAX_LINES = 100
# What a block holds, by its keys in lower case: the serial number, and parameters with semicolons between them.
SERIAL = "sccauthenticatorid"
DATA = "scctokendata"

# How the first line of a block begins, where there is no blank line before it.
BEGINNING = "dn:"

SEVERAL_TOKENS = "the block holds more than one token: put a blank line between them"
NOT_PAIRS = (
    "the block is not made of lines `key: value`: see whether it was cut off, and ask the vendor for the file again"
)
OTHER_EPOCH = (
    "the token is time-based and counts its time from 2000-01-01, and PingOne counts from 1970-01-01 without a setting "
    "for that: every OTP would be wrong, so leave the token out"
)
NO_LENGTH = (
    "the block does not say how many digits an OTP has (sccPwLen): see whether it was cut off, and ask the vendor for "
    "the file again, or say it, by --digits"
)
MODE_UNKNOWN = "sccMode is neither E (event) nor T (time): PingOne takes no other tokens, so leave it out"


class ETokenDat:
    """SafeWord's list of eTokens: one block of lines a token, with a blank line between them."""

    name = "etoken-dat"
    title = "eToken / SafeWord .dat: blocks of lines such as sccAuthenticatorId: serial; event tokens only"

    def is_format_of(self, head: bytes) -> bool:
        return any(
            line.lower().replace(" ", "").startswith((SERIAL, DATA, f"dn:{SERIAL}")) for line in read_first_lines(head)
        )

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, _read_blocks(file))
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(_read_blocks(file), partial(_read_token, file.hints), file.hints)


def _read_blocks(file: OpenFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the lines of every block, without comments. Raises UnusableFile."""
    block: list[str] = []
    first = 0
    line = ""
    for number, line in enumerate(read_lines(file.path, file.stream, file.digest), 1):
        text = line.strip()
        if text.startswith("#"):
            continue
        if block and (not text or text.lower().startswith(BEGINNING)):
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
        raise RowRefused(SEVERAL_TOKENS)
    values = {key: value.strip() for key, (_, _, value) in zip(keys, pairs, strict=True)}
    serial = values.get(SERIAL, "")
    if not all(colon for _, colon, _ in pairs) or DATA not in values:
        raise RowRefused(NOT_PAIRS, serial)
    parameters = {
        name.strip().lower(): value.strip()
        for name, _, value in (part.partition("=") for part in values[DATA].split(";"))
    }
    if not parameters.get("sccpwlen") and hints.digits is None:
        raise RowRefused(NO_LENGTH, serial)
    mode = parameters.get("sccmode", "").upper()
    if mode != "E":
        raise RowRefused(OTHER_EPOCH if mode == "T" else MODE_UNKNOWN, serial)
    return Token(
        serial=serial,
        secret=parameters.get("scckey", ""),
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        digits=parameters.get("sccpwlen"),
        hash_algorithm=parameters.get("crypto"),
    )
