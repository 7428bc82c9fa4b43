"""From lines to rows of fields: csv.reader, kept from swallowing good rows after a stray quotation mark."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Protocol

# A quoted value may hold line breaks, an address for one; more than this is a quotation mark left open.
MAX_ROW_LINES = 20


class Layout(Protocol):
    """What a format knows of its rows before it reads them: the line of the header and the delimiter."""

    @property
    def row_number(self) -> int: ...

    @property
    def delimiter(self) -> str: ...

    def is_one_row(self, fields: list[str]) -> bool:
        """Whether fields with line breaks in them are one row."""
        ...


class RereadableLines(Iterator[str]):
    """What csv.reader draws on. Remembers the lines of the row in hand, to read all but the first again."""

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
        return len(self._lines_of_row) > 1

    def begin_row(self) -> None:
        self.row_number += len(self._lines_of_row)
        self._lines_of_row.clear()

    def give_back_all_but_first(self) -> None:
        self._to_reread.extendleft(reversed(self._lines_of_row[1:]))
        del self._lines_of_row[1:]


def split_rows(lines: Iterator[str], header: Layout) -> Iterator[tuple[int, list[str] | None]]:
    """(number of its first line, fields) of every row; no fields (None) where quotation marks make no sense.

    `lines` begins behind the header. A quotation mark left open takes the lines that follow for one value. So
    a row of many lines counts only if the header finds it whole; otherwise its first line alone is at fault,
    and the others are read again, each for itself.
    """
    source = RereadableLines(lines, header.row_number + 1)
    # strict: without it `"12"3` silently becomes 123, and a file cut off inside quotes passes for whole.
    reader = csv.reader(source, delimiter=header.delimiter, strict=True)
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
        yield source.row_number, fields
