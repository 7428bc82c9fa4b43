"""CSVs with a header of a vendor's: which column stands where, and the rows as values by the names of their columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from worker.intake.formats.bare_csv import BareLayout, Cells, check_cells, split_cells
from worker.intake.formats.first_lines import read_first_lines
from worker.intake.formats.format import OpenFile
from worker.intake.formats.otp_pairs.columns import is_own, normalise
from worker.intake.formats.otp_pairs.header import DELIMITERS, is_blank
from worker.intake.lines import read_lines
from worker.intake.rows import UnusableFile

# How a line begins that is a comment above the header: `#`, unless that is the name of the first column.
COMMENT = re.compile(r"\s*#(?![,;\t])")
# What a file must have a column for, if the format knows it.
REQUIRED = ("serial", "secret", "data")


@dataclass(frozen=True, slots=True)
class VendorHeader:
    """The header of a file: its line and its delimiter, and the names of its columns as written. `meanings` are those
    of the names that the format knows, by their normalised forms."""

    row_number: int
    delimiter: str
    names: list[str]
    meanings: Mapping[str, str]

    def pick(self, row: Cells) -> tuple[dict[str, str], dict[str, str]]:
        """Split a row into the values that mean something to the format, by what they mean, and the file's own values,
        by their names as written; of these, none that holds a secret or a result of ours. Raises RowRefused."""
        meanings = [self.meanings.get(normalise(name), "") for name in self.names]
        cells = check_cells(row, 1, len(self.names), meanings.index("serial"))
        known: dict[str, str] = {}
        own: dict[str, str] = {}
        for name, meaning, cell in zip(self.names, meanings, cells, strict=True):
            if meaning:
                known[meaning] = cell
            elif is_own(name):
                own[name] = cell
        return known, own

    @property
    def kept_names(self) -> list[str]:
        """The names, as written, of the columns that hold no secret and no result of an earlier export."""
        return [name for name in self.names if is_own(name)]


def split_header(line: str) -> tuple[str, list[str]]:
    """Split a header with that delimiter which gives the most columns; empty names at the end are dropped."""
    rows = [
        (delimiter, next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))
        for delimiter in DELIMITERS
    ]
    delimiter, names = max(rows, key=lambda row: len(row[1]))
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    return delimiter, names


def find_names(head: bytes) -> set[str]:
    """Find the normalised names in the header of a file that begins with these bytes: in its first line that is no
    comment."""
    first = [line for line in read_first_lines(head) if not COMMENT.match(line)][:1]
    return {normalise(name) for line in first for name in split_header(line)[1]}


def read_table(file: OpenFile, meanings: Mapping[str, str]) -> tuple[VendorHeader, Iterator[tuple[int, Cells]]]:
    """Read the header, and yield line and cells of the rows below it. Raises UnusableFile."""
    lines = read_lines(file.path, file.stream, file.digest)
    numbered = ((n, text) for n, text in enumerate(lines, 1) if not (is_blank(text) or COMMENT.match(text)))
    row_number, line = next(numbered, (0, ""))
    delimiter, names = split_header(line)
    known = [meanings[normalise(name)] for name in names if normalise(name) in meanings]
    if missing := sorted(set(REQUIRED) & set(meanings.values()) - set(known)):
        problem = f"the header has no column for the {' and the '.join(missing)}"
        raise UnusableFile(file.path, problem, "Use the file as the vendor sent it", row_number=row_number or None)
    if len(known) != len(set(known)):
        raise UnusableFile(
            file.path, "two columns mean the same", "Remove or rename one of the two", row_number=row_number
        )
    header = VendorHeader(row_number, delimiter, names, meanings)
    return header, split_cells(lines, BareLayout(delimiter, row_number))
