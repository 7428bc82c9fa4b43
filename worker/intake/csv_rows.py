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

    def is_whole(self, fields: list[str]) -> bool:
        """Whether fields with line breaks in them are one row."""
        ...


class RereadableLines(Iterator[str]):
    """What csv.reader draws on. Remembers the lines of the row in hand, to read all but the first again."""

    def __init__(self, lines: Iterator[str], row_number: int) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._in_hand: list[str] = []
        self.row_number = row_number

    def __next__(self) -> str:
        if len(self._in_hand) == MAX_ROW_LINES:
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        self._in_hand.append(line)
        return line

    @property
    def is_row_of_many_lines(self) -> bool:
        return len(self._in_hand) > 1

    def begin_row(self) -> None:
        self.row_number += len(self._in_hand)
        self._in_hand.clear()

    def give_back(self) -> None:
        self._again.extendleft(reversed(self._in_hand[1:]))
        del self._in_hand[1:]


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
        if source.is_row_of_many_lines and not (fields and header.is_whole(fields)):
            source.give_back()
            fields = None
        yield source.row_number, fields
