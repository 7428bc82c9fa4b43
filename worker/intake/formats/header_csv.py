"""CSVs with a header of a vendor's: which column stands where, and the rows as values by the names of their columns."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from worker.intake.formats.bare_csv import BareLayout, Cells, check_cells, split_cells
from worker.intake.formats.first_lines import read_first_lines
from worker.intake.formats.format import OpenFile
from worker.intake.formats.otp_pairs.columns import canonical_column, is_own, looks_like_data, normalise
from worker.intake.formats.otp_pairs.header import (
    DELIMITERS,
    HAS_SEPARATOR_LINE,
    HEADER_MISSING,
    MAX_COLUMNS,
    SEPARATOR_LINE,
    is_blank,
)
from worker.intake.lines import read_lines
from worker.intake.rows import UnusableFile

# What a file must have a column for, if the format knows it.
REQUIRED = ("serial", "secret", "data")
CURE = "Use the file as the vendor sent it"
# Lines among which the header is, if the ones above it are comments.
MOST_ABOVE = 1000


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


def split_header(line: str, is_known: Callable[[str], object] = canonical_column) -> tuple[str, list[str]]:
    """Split a header with that delimiter which gives the most columns that are known, or if these are as many, the most
    columns; empty names at the end are dropped."""
    rows = [
        (delimiter, next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))
        for delimiter in DELIMITERS
    ]
    delimiter, names = max(rows, key=lambda row: (sum(map(bool, map(is_known, row[1]))), len(row[1])))
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    return delimiter, names


def find_header(lines: Iterable[str], meanings: Mapping[str, str]) -> tuple[int, str]:
    """Find the header among the first lines of a file, and how many it is from the top; 0 if there is none. It is the
    first line that is no comment, unless that lacks a column that is required, and a comment above it has all of them:
    the name of a header's first column may begin with `#`."""
    in_comment = 0, ""
    for row_number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        if not _is_comment(line):
            return in_comment if in_comment[0] and not _is_complete(line, meanings) else (row_number, line)
        if _is_complete(line, meanings):
            in_comment = row_number, line
    return in_comment


def find_names(head: bytes, meanings: Mapping[str, str]) -> set[str]:
    """Find the normalised names in the header of a file that begins with these bytes."""
    _, line = find_header(read_first_lines(head), meanings)
    return set(map(normalise, _split(line, meanings)[1]))


def read_table(
    file: OpenFile, meanings: Mapping[str, str], cure: str = CURE
) -> tuple[VendorHeader, Iterator[tuple[int, Cells]]]:
    """Read the header, and yield line and cells of the rows below it. Raises UnusableFile, with `cure` where one of its
    columns is missing."""
    lines = read_lines(file.path, file.stream, file.digest)
    above = list[str]()
    row_number, line = find_header(_keep(islice(lines, MOST_ABOVE), above), meanings)
    if SEPARATOR_LINE.match(line):
        raise UnusableFile(file.path, *HAS_SEPARATOR_LINE, row_number=row_number)
    known, (delimiter, names) = _find_known(line, meanings), _split(line, meanings)
    if len(names) > MAX_COLUMNS:
        problem = f"the header has more than {MAX_COLUMNS} columns"
        raise UnusableFile(file.path, problem, "Remove those that say nothing about the tokens", row_number=row_number)
    if missing := sorted(_find_required(meanings) - set(known)):
        is_row = not known and any(map(looks_like_data, names))
        problem = HEADER_MISSING if is_row else f"the header has no column for the {' and the '.join(missing)}"
        raise UnusableFile(file.path, problem, cure, row_number=row_number or None)
    if twice := _find_twice(names, meanings):
        problem = f"columns {twice[0]} and {twice[1]} mean the same"
        raise UnusableFile(file.path, problem, "Remove or rename one of the two", row_number=row_number)
    header = VendorHeader(row_number, delimiter, names, meanings)
    # A header in a comment was found only at the first row.
    below = chain(above[row_number:], lines)
    rows = (_drop_comment(text, header, is_header_comment=_is_comment(line)) for text in below)
    return header, split_cells(rows, BareLayout(delimiter, row_number, len(names)), has_comments=False)


def _split(line: str, meanings: Mapping[str, str]) -> tuple[str, list[str]]:
    return split_header(line, lambda name: normalise(name) in meanings)


def _keep(lines: Iterator[str], kept: list[str]) -> Iterator[str]:
    """Yield the lines, and keep those that were taken."""
    for line in lines:
        kept.append(line)
        yield line


def _find_required(meanings: Mapping[str, str]) -> set[str]:
    return set(REQUIRED) & set(meanings.values())


def _find_known(line: str, meanings: Mapping[str, str]) -> list[str]:
    """Find what the columns of a header mean to the format."""
    names = map(normalise, _split(line, meanings)[1])
    return [meanings[name] for name in names if name in meanings]


def _find_twice(names: list[str], meanings: Mapping[str, str]) -> tuple[int, int] | None:
    """Find two columns of a header, counted from 1, of which a row could keep one alone; None if there are none."""
    seen: dict[tuple[str, str], int] = {}
    for place, name in enumerate(names, 1):
        meaning = meanings.get(normalise(name), "")
        # Apart from the meanings, since a column of the file's own may be called what another one means.
        own = normalise(name) if not meaning and is_own(name) else ""
        if (meaning or own) and seen.setdefault((meaning, own), place) != place:
            return seen[meaning, own], place
    return None


def _is_complete(line: str, meanings: Mapping[str, str]) -> bool:
    return _find_required(meanings) <= set(_find_known(line, meanings))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _drop_comment(line: str, header: VendorHeader, *, is_header_comment: bool) -> str:
    """Make a blank line of a comment, so that it still counts. Where the header begins with `#`, a row may do so too:
    then whatever has a delimiter is one."""
    is_row = not _is_comment(line) or (is_header_comment and header.delimiter in line)
    return line if is_row else "\n"
