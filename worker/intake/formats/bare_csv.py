"""CSVs without a header: their lines become cells. A line that begins with # is a comment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.row_fault import RowFault
from worker.intake.csv_rows import split_rows
from worker.intake.formats.format import OpenFile
from worker.intake.formats.refusals import QUOTATION_MARKS, RowRefused
from worker.intake.lines import read_lines
from worker.intake.rows import UnusableFile

ONE_FIELD = (
    "the row is one field alone: see whether the line was cut off, stands in quotation marks as a whole, or has "
    "another separator between its values than this format"
)

# The cells of a row, without blanks around them and without empty ones at the end; None if the quotation marks of the
# row make no sense.
Cells = list[str] | None


@dataclass(frozen=True, slots=True)
class BareLayout:
    """The layout of rows in which no value holds a line break. `row_number` is that of the line before the first,
    `columns` are those of the header, 0 without one."""

    delimiter: str
    row_number: int = 0
    columns: int = 0

    def is_one_row(self, fields: list[str]) -> bool:
        return False


def read_cells(file: OpenFile, delimiter: str) -> Iterator[tuple[int, Cells]]:
    """Yield the line and the cells of every row of a file. Raises UnusableFile."""
    return split_cells(read_lines(file.path, file.stream, file.digest), BareLayout(delimiter))


def split_cells(lines: Iterator[str], layout: BareLayout, *, has_comments: bool = True) -> Iterator[tuple[int, Cells]]:
    """Yield the line and the cells of every row that is neither blank nor, with `has_comments`, a comment."""
    lines = map(_blank_comment, lines) if has_comments else lines
    for row_number, fields in split_rows(lines, layout, skips_blanks=True):
        if fields is None:
            yield row_number, None
        else:
            _strip(fields)
            if fields:
                yield row_number, fields


def check_cells(cells: Cells, fewest: int, most: int, serial_at: int = 0) -> list[str]:
    """Return the cells of a row, filled up with empty ones to `most`. Raises RowRefused if there are fewer than
    `fewest` or more than `most`. `serial_at`: the place of the serial number, counted from 0."""
    if cells is None:
        raise RowRefused(QUOTATION_MARKS, fault=RowFault.ROW_UNREADABLE)
    if len(cells) == 1 < fewest:
        raise RowRefused(ONE_FIELD, "" if serial_at else cells[0], RowFault.ROW_UNREADABLE)
    if not fewest <= len(cells) <= most:
        fault, cure = ("few", "the line was cut off") if len(cells) < fewest else ("many", "two lines were joined")
        raise RowRefused(
            f"the row has too {fault} fields for this format: see whether {cure}",
            "".join(cells[serial_at : serial_at + 1]),
            RowFault.ROW_UNREADABLE,
        )
    return cells + [""] * (most - len(cells))


def check_not_empty(file: OpenFile, rows: Iterator[object]) -> None:
    """Read the rows to the end of the file. Raises UnusableFile if there are none."""
    if not sum(1 for _ in rows):
        raise UnusableFile(file.path, "holds no tokens", "Ask for the file again, with the tokens in it")


def _blank_comment(line: str) -> str:
    """Make a blank line of a comment, so that it still counts."""
    return "\n" if line.lstrip().startswith("#") else line


def _strip(cells: list[str]) -> None:
    """Drop the blanks around the cells, and the empty cells at the end."""
    cells[:] = map(str.strip, cells)
    while cells and not cells[-1]:
        cells.pop()
