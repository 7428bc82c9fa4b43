"""From lines to rows of fields: csv.reader, kept from swallowing good rows after a quotation mark that is never
closed."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from worker.intake.cut_off import OpenRow

# Lines that a row may have. A quoted value, such as an address, may hold line breaks; more of them than this, and its
# quotation mark was never closed.
MAX_ROW_LINES = 20


class Layout(Protocol):
    """What a format knows of its rows before it reads them: the line on which its header stands, how many columns that
    has (0 without one), and the delimiter."""

    @property
    def row_number(self) -> int: ...

    @property
    def columns(self) -> int: ...

    @property
    def delimiter(self) -> str: ...

    def is_one_row(self, fields: list[str]) -> bool:
        """Whether these fields, some of which hold line breaks, are one row, and not several behind a quotation mark
        that was never closed."""
        ...


class RereadableLines(Iterator[str]):
    """The lines that csv.reader reads. It remembers those of the present row, so that all but the first can be read
    again. `row_number` is the line on which the present row begins."""

    def __init__(self, lines: Iterator[str], row_number: int) -> None:
        self._lines = lines
        self._to_reread: deque[str] = deque()
        self._lines_of_row: list[str] = []
        self.row_number = row_number

    def __next__(self) -> str:
        if len(self._lines_of_row) == MAX_ROW_LINES:
            raise StopIteration
        line = self._to_reread.popleft() if self._to_reread else next(self._lines)
        self._lines_of_row.append(line)
        return line

    @property
    def is_row_of_many_lines(self) -> bool:
        """Whether csv.reader has read more than one line for the present row."""
        return len(self._lines_of_row) > 1

    @property
    def last_line(self) -> str:
        """The last line of the present row, with its end if it has one."""
        return self._lines_of_row[-1]

    def begin_row(self) -> None:
        """Go on to the next row: forget the lines of the present one, and count them."""
        self.row_number += len(self._lines_of_row)
        self._lines_of_row.clear()

    def give_back_all_but_first(self) -> None:
        """End the present row with its first line; its other lines are read again."""
        self._to_reread.extendleft(reversed(self._lines_of_row[1:]))
        del self._lines_of_row[1:]


def split_rows(
    lines: Iterator[str], header: Layout, *, skips_blanks: bool = False
) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the number of its first line and the fields of every row; None for fields if the quotation marks of the row
    make no sense. A last row without a line break at its end is an OpenRow.

    `lines` begins behind the header. `skips_blanks`: blanks before a value, and before its quotation marks, are none of
    it.

    After a quotation mark that is never closed, csv.reader takes the lines that follow for one value. So a row of many
    lines counts only if the header takes it for one row; otherwise its first line alone is at fault, and the others are
    read again, each for itself.
    """
    source = RereadableLines(lines, header.row_number + 1)
    # Unless it is strict, csv.reader makes 123 of `"12"3`, and takes a file that was cut off inside quotes for
    # complete.
    reader = csv.reader(source, delimiter=header.delimiter, strict=True, skipinitialspace=skips_blanks)
    while True:
        source.begin_row()
        try:
            fields: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields = None
        if source.is_row_of_many_lines and not (fields and header.is_one_row(fields)):
            source.give_back_all_but_first()
            fields = None
        if fields and not source.last_line.endswith(("\n", "\r")):
            fields = OpenRow(fields, header.columns, is_quoted=source.last_line.endswith('"'))
        yield source.row_number, fields
