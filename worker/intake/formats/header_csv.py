"""CSVs with a header of a vendor's: which column stands where, and the rows as values by the names of their columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from worker.intake.formats.bare_csv import BareLayout, Cells, check_cells, split_cells
from worker.intake.formats.first_lines import read_first_lines
from worker.intake.formats.format import OpenFile
from worker.intake.formats.otp_pairs.columns import is_own, normalise
from worker.intake.formats.otp_pairs.header import DELIMITERS, is_blank
from worker.intake.lines import read_lines
from worker.intake.rows import UnusableFile

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
    """Find the normalised names in the header of a file that begins with these bytes. It is the first line, or stands
    below comments; these count too, since a header may begin with `#`."""
    names = set[str]()
    for line in read_first_lines(head):
        names |= {normalise(name) for name in split_header(line)[1]}
        if not _may_be_comment(line):
            break
    return names


def read_table(file: OpenFile, meanings: Mapping[str, str]) -> tuple[VendorHeader, Iterator[tuple[int, Cells]]]:
    """Read the header, and yield line and cells of the rows below it. Raises UnusableFile."""
    required = set(REQUIRED) & set(meanings.values())

    def find_known(line: str) -> list[str]:
        names = map(normalise, split_header(line)[1])
        return [meanings[name] for name in names if name in meanings]

    def is_header(line: str) -> bool:
        return not is_blank(line) and (not _may_be_comment(line) or required <= set(find_known(line)))

    lines = read_lines(file.path, file.stream, file.digest)
    row_number, line = next(((n, text) for n, text in enumerate(lines, 1) if is_header(text)), (0, ""))
    known, (delimiter, names) = find_known(line), split_header(line)
    if missing := sorted(required - set(known)):
        problem = f"the header has no column for the {' and the '.join(missing)}"
        raise UnusableFile(file.path, problem, "Use the file as the vendor sent it", row_number=row_number or None)
    if len(known) != len(set(known)):
        raise UnusableFile(
            file.path, "two columns mean the same", "Remove or rename one of the two", row_number=row_number
        )
    header = VendorHeader(row_number, delimiter, names, meanings)
    below = ("\n" if _is_comment_below(text, header) else text for text in lines)
    return header, split_cells(below, BareLayout(delimiter, row_number), has_comments=False)


def _may_be_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_comment_below(line: str, header: VendorHeader) -> bool:
    """Whether a line below the header is a comment, and no row whose first value begins with `#`."""
    return _may_be_comment(line) and line.count(header.delimiter) < len(header.names) - 1
