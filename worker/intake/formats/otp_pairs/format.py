"""The format "OTP pairs": reads a file from its bytes to its rows. What mends a batch may be one too, an export or a
list of who gets what: its rows may have fresh OTPs, or none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from models.row_fault import RowFault
from worker.intake.csv_rows import split_rows
from worker.intake.cut_off import read_whole_rows
from worker.intake.foreign_files import find_foreign
from worker.intake.formats.format import OpenFile
from worker.intake.formats.otp_pairs import reasons
from worker.intake.formats.otp_pairs.cells import PairReader
from worker.intake.formats.otp_pairs.columns import is_result
from worker.intake.formats.otp_pairs.header import is_blank, read_header
from worker.intake.lines import read_lines
from worker.intake.rows import Row, RowError, UnusableFile


class OtpPairs:
    """OTP pairs in a CSV with a header. Every file that is not recognised as something else is taken for one; if it is
    none, what is wrong with its header is said."""

    name = "otp-pairs"
    title = "OTP pairs: a CSV of our own, with a serial number and two consecutive OTPs a row; or an export"

    def is_format_of(self, head: bytes) -> bool:
        return find_foreign(head) is None

    def read_columns(self, file: OpenFile) -> list[str]:
        lines = read_lines(file.path, file.stream, file.digest)
        header = read_header(file.path, lines, mends=file.hints.mends)
        if not sum(not is_blank(line) for line in lines):
            raise UnusableFile(file.path, "has a header and no rows", "Export it again, with one row a token")
        return [name for name in header.names if not is_result(name)]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        lines = read_lines(file.path, file.stream, file.digest)
        header = read_header(file.path, lines, mends=file.hints.mends)
        reader = PairReader(header, now, may_lack_otps=file.hints.mends)

        def read(row_number: int, fields: list[str] | None) -> Row | RowError:
            if fields is None:
                return RowError(row_number, reasons.QUOTATION_MARKS, None, RowFault.ROW_UNREADABLE)
            return reader.read(row_number, fields)

        rows = split_rows(lines, header)
        return read_whole_rows(
            ((n, fields) for n, fields in rows if fields is None or any(map(str.strip, fields))), read
        )
