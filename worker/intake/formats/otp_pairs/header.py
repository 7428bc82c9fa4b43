"""The header line of OTP pairs: finds the delimiter, and which column stands where; refuses a header that will not
do."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from worker.intake.foreign_files import EXPORT_CSV
from worker.intake.formats.otp_pairs.columns import (
    KNOWN,
    OTP1,
    canonical_column,
    is_result,
    looks_like_data,
    names_secret,
    normalise,
)
from worker.intake.identities import PERSON
from worker.intake.results import FILE_ROW
from worker.intake.rows import UnusableFile

# Lines below a comment in which a header is looked for.
SEARCHED = 20
# What may separate the fields.
DELIMITERS = (",", ";", "\t")
# The line with which Excel is told the separator, and problem and cure of a file that begins with it.
SEPARATOR_LINE = re.compile(r"\s*\"?sep=")
HAS_SEPARATOR_LINE = (
    "begins with a 'sep=' line for Excel",
    "Delete that line: the separator is told from the header",
)
# The problem of a file whose first line looks like a row.
HEADER_MISSING = "the first line is a row of data, the header is missing"
# Columns that a header may have; a file with more of them is no shipment.
MAX_COLUMNS = 200
# The cures of a column that holds a secret: in a file of pairs, and in one of seeds.
CURE_OF_PAIRS = "Remove the column, or rename it if it holds no secret: only the OTPs are kept encrypted"
CURE_OF_SEEDS = (
    "It is none of the vendors' files of seeds that are known here (see oathbulk formats): ask the vendor for PSKC, or "
    "write it as serial,seed,type,digits,counter or step, without a header; if it holds pairs, add otp1 and remove the "
    "column"
)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file. `row_number` is its own line, `names` are as written; `places` says where each column of
    ours stands, counted from 0, `extra` has the names and places of the others, but for those that an export added."""

    row_number: int
    delimiter: str
    names: list[str]
    places: dict[str, int]
    extra: tuple[tuple[str, int], ...]

    @property
    def columns(self) -> int:
        return len(self.names)

    def is_fitting(self, fields: list[str]) -> bool:
        """Whether a row has a field for every column, and beyond them only empty ones, as Excel writes them."""
        width = len(self.names)
        return len(fields) == width or (len(fields) > width and not any(map(str.strip, fields[width:])))

    def is_one_row(self, fields: list[str]) -> bool:
        """Whether fields with line breaks are one row: they fit the header, and no break is in a column of ours."""
        if not self.is_fitting(fields):
            return False
        return not any("\n" in fields[place] or "\r" in fields[place] for place in self.places.values())


def is_blank(line: str) -> bool:
    """Whether a line is empty or has separators alone, with which Excel ends many a file."""
    return not line.strip(' ,;\t\r\n"')


def read_header(path: Path, lines: Iterator[str], *, mends: bool = False) -> Header:
    """Read the header, which is the first line that is not blank; `lines` goes on behind it. `mends`: the rows belong
    to a batch that is loaded, so that they need no OTPs. Raises UnusableFile."""
    row_number, line = next(((n, text) for n, text in enumerate(lines, 1) if not is_blank(text)), (0, ""))
    if not row_number:
        raise UnusableFile(path, "is empty", EXPORT_CSV)
    try:
        delimiter, names = _split(line)
        _refuse_foreign(names, lines)
        _refuse_secrets(names)
        _refuse_incomplete(names, mends=mends)
        _refuse_doubles(names)
    except _HeaderError as fault:
        raise UnusableFile(path, *fault.args, row_number=row_number) from None
    columns = [canonical_column(name) for name in names]
    places = {column: place for place, column in enumerate(columns) if column}
    extra = tuple((name, place) for place, name in enumerate(names) if not columns[place] and not is_result(name))
    return Header(row_number, delimiter, names, places, extra)


class _HeaderError(Exception):
    """The header will not do: problem and cure, of which an UnusableFile is made that also names file and line."""


def _split(line: str) -> tuple[str, list[str]]:
    """Find the delimiter, and split the line with it: that one which gives the most columns of ours, or if these are as
    many, the most columns. Empty names at the end are dropped. Raises _HeaderError."""
    if SEPARATOR_LINE.match(line):
        raise _HeaderError(*HAS_SEPARATOR_LINE)
    candidates = []
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        candidates.append((sum(map(bool, map(canonical_column, names))), len(names), delimiter, names))
    if not candidates:
        cure = "Close the quotation marks, and keep line breaks out of column names"
        raise _HeaderError("the quotation marks in the header make no sense", cure)
    _, _, delimiter, names = max(candidates, key=lambda candidate: candidate[:2])
    while names and not names[-1].strip():
        names.pop()
    return delimiter, names


def _refuse_foreign(names: list[str], below: Iterator[str]) -> None:
    """Raise _HeaderError if this is no header of OTP pairs. `below`: the lines that follow it."""
    if len(names) > MAX_COLUMNS:
        cure = "Remove those that say nothing about the tokens"
        raise _HeaderError(f"the header has more than {MAX_COLUMNS} columns", cure)
    if any(map(canonical_column, names)):
        return
    is_comment = "".join(names[:1]).lstrip().startswith("#")
    if is_comment and any(map(_looks_like_header, islice(below, SEARCHED))):
        raise _HeaderError("begins with a comment, and not with a header", "Delete the lines above the header")
    # The message does not quote the line: if it is a row of data, it holds OTPs or seeds.
    problem = "the first line names none of the columns of OTP pairs"
    if is_comment:
        problem = "begins with a comment, and no header follows"
    elif any(map(looks_like_data, names)):
        problem = HEADER_MISSING
    columns = "serial,otp1,otp2,user_id,device_id"
    cure = f"Put a header above the rows, separated by comma, semicolon or tab, such as: {columns}"
    cure += "; if it is a vendor's file of seeds, say which, by --format. docs/formats.md tells what is read"
    raise _HeaderError(problem, cure)


def _looks_like_header(line: str) -> bool:
    """Whether a line names several of our columns."""
    try:
        _, names = _split(line)
    except _HeaderError:
        return False
    return sum(map(bool, map(canonical_column, names))) > 1


def _refuse_secrets(names: list[str]) -> None:
    """Raise _HeaderError if a column says that it holds a secret: what is none of ours is not kept encrypted."""
    is_of_pairs = bool({OTP1.name, FILE_ROW} & set(map(canonical_column, names)))
    for place, name in enumerate(names, 1):
        if canonical_column(name) is None and not is_result(name) and names_secret(name):
            problem = f"{_describe(name, place)} says that it holds a seed, key, PIN, password or another OTP"
            cure = CURE_OF_PAIRS if is_of_pairs else CURE_OF_SEEDS
            raise _HeaderError(problem, cure)


def _refuse_incomplete(names: list[str], *, mends: bool) -> None:
    """Raise _HeaderError if a required column is missing, or one has no name; or if it is an export, which mends the
    batch that it was written from, and makes no other."""
    found = {canonical_column(name) for name in names}
    if FILE_ROW in found and not mends:
        cure = f"Bring it back into its batch: oathbulk mend BATCH FILE. As new rows: delete the column {FILE_ROW}"
        raise _HeaderError(f"is an export of a batch, by its column {FILE_ROW}", cure)
    required = {column.name for column in KNOWN if column.is_required} - ({OTP1.name} if mends else set())
    if missing := [column.name for column in KNOWN if column.name in required - found]:
        cure = "Add it, or give the column that holds it this name; a file of seeds is not one of OTP pairs"
        if missing == [OTP1.name] and found & set(PERSON):
            cure += ", and if it is the list of who gets what, give it by --assign, and here the file of the tokens"
        raise _HeaderError(f"the header has no column {' and no column '.join(missing)}", cure)
    if unnamed := [place for place, name in enumerate(names, 1) if not name.strip()]:
        raise _HeaderError(f"column {unnamed[0]} has no name", "Name the column or remove it")


def _refuse_doubles(names: list[str]) -> None:
    """Raise _HeaderError if two columns mean the same."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        meaning = canonical_column(name) or normalise(name)
        if meaning in seen:
            problem = f"{_describe(name, place)} means the same as column {seen[meaning]}"
            raise _HeaderError(problem, "Remove or rename one of the two")
        seen[meaning] = place


def _describe(name: str, place: int) -> str:
    """Name a column by its number, and by its name too, unless that may be the value of a cell."""
    is_name = len(name) <= 40 and name.isprintable() and not looks_like_data(name)
    return f"column {place} ('{name.strip()}')" if is_name else f"column {place}"
