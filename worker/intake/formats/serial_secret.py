"""The format "serial and secret": two or three columns without a header, as for the PingID console, Duo and IBM."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from worker.intake.formats.bare_csv import Cells, check_cells, check_not_empty, read_cells
from worker.intake.formats.first_lines import split_first_lines
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.otp_pairs.columns import names_secret
from worker.intake.formats.secrets import looks_like_secret
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError, UnusableFile

SAY_TYPE = "Say it by --otp-type hotp, or by --otp-type totp --time-step 30 (or 60)"
SAY_STEP = "Say it by --time-step 30 or --time-step 60"


class SerialSecret:
    """Serial and secret in every row, and a counter in some. Nothing in the file says the type and the time step, but a
    counter says that the token is HOTP."""

    name = "serial-secret"
    title = "Serial and secret without a header (PingID console, Duo, IBM): serial, secret, and a counter for HOTP"

    def is_format_of(self, head: bytes) -> bool:
        rows = split_first_lines(head, ",")
        if rows and _is_header(rows[0]):
            return False
        return any(len(row) in (2, 3) and looks_like_secret(row[1]) for row in rows) and all(map(_is_fitting, rows))

    def read_columns(self, file: OpenFile) -> list[str]:
        is_typeless = False

        def look(row: tuple[int, Cells]) -> None:
            nonlocal is_typeless
            is_typeless = is_typeless or len(row[1] or ()) == 2

        check_not_empty(file, map(look, read_cells(file, ",")))
        if file.hints.otp_type is None and is_typeless:
            raise UnusableFile(file.path, "does not say whether its tokens are HOTP or TOTP", SAY_TYPE)
        if file.hints.otp_type == "totp" and file.hints.time_step is None:
            raise UnusableFile(file.path, "does not say the time step of its tokens", SAY_STEP)
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(read_cells(file, ","), partial(_read_token, file.hints), file.hints)


def _is_header(cells: list[str]) -> bool:
    """Whether the second cell of the first line is the name of a column, such as `secret key`."""
    return len(cells) > 1 and not looks_like_secret(cells[1]) and names_secret(cells[1])


def _is_fitting(cells: list[str]) -> bool:
    """Whether a row has no more cells than this format, and no word in its third cell."""
    return not any(cells[3:]) and not "".join(cells[2:3]).isalpha()


def _read_token(hints: Hints, row: Cells) -> Token:
    """Read the token in a row of cells. Raises RowRefused."""
    serial, secret, counter = check_cells(row, 2, 3)
    # With --otp-type totp a third column is no counter: it says nothing that is needed.
    return Token(
        serial=serial,
        secret=secret,
        encoding=hints.encoding,
        usual_type="hotp" if counter else None,
        counter=counter,
    )
