"""Refuses the last row of a file that was cut off, which would load with a shorter secret, or without what its last
cells say.

Many an editor leaves the last line without a line break, so that alone says nothing. Such a row loads if it has as many
cells as the header, or without a header as the longest of the others; if a further cell would be refused or change
nothing, or another row of its type has no more cells either; and if its last cell is whole by one of two signs:

- more characters behind it would be refused or change nothing, as behind an id, a time step, or the counter 0;
- it is like that cell of all other rows of the type: a secret or an OTP is as long, a value of the file's own is the
  same, an e-mail address has the same domain. A counter, a name or a serial number is never told whole by this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from models.row_fault import RowFault
from worker.intake.formats.serials import find_nameable_serial
from worker.intake.rows import Row, RowError
from worker.vault.seed import OtpType, Seed

CUT_OFF = (
    "the row is the last one, has no line break at its end, and may be cut off: if it is whole, put a line break "
    "behind it; otherwise get the file again"
)
# What may have followed in a last cell: a digit of a counter; two digits of an OTP or of a hexadecimal secret; a piece
# of a secret in Base32 or Base64; the minutes of a time zone; a byte of a counter in Base64; the pair in which RCDevs
# has a counter.
CONTINUATIONS = ("0", "00", "AAAAAAAA", ":30", "MA==", ",TokenState=OA==")
# Cells that may have followed: type, digits, time step, hash, and a counter in decimals or in Base64.
FURTHER_CELLS = ("totp", "8", "60", "sha1", "sha256", "7", "MA==")

# Of rows that have so many cells and this type: length and ending of their last cells, None if these differ.
OtherRows = dict[tuple[int, OtpType], tuple[int | None, str | None]]


class OpenRow(list[str]):
    """The cells of a last row without a line break at its end. `columns`: those of the header, 0 without one;
    `is_quoted`: quotation marks close the last cell."""

    def __init__(self, cells: Iterable[str], columns: int = 0, *, is_quoted: bool = False) -> None:
        super().__init__(cells)
        self.columns = columns
        self.is_quoted = is_quoted


def read_whole_rows(
    numbered: Iterable[tuple[int, Any]], read: Callable[[int, Any], Row | RowError]
) -> Iterator[Row | RowError]:
    """Read every row of a file by `read`, from its number and its cells, and refuse an OpenRow that may be cut off.
    What is no list of cells, as in a format that is a tree, is read alone."""
    others: OtherRows = {}
    for number, raw in numbered:
        row = read(number, raw)
        if isinstance(row, Row) and isinstance(raw, list):
            if isinstance(raw, OpenRow) and not _is_whole(row, raw, others, read):
                serial = row.serial_number
                nameable = find_nameable_serial(serial) if isinstance(row.otps, Seed) else serial
                row = RowError(number, CUT_OFF, nameable, RowFault.ROW_UNREADABLE)
            else:
                _note_last_cell(others, row, raw)
        yield row


def _note_last_cell(others: OtherRows, row: Row, cells: list[str]) -> None:
    """Note what a row has in common with the others of its type that have as many cells."""
    kind, cell = (len(cells), row.otp_type), cells[-1].strip()
    found = len(cell), _find_ending(cell)
    length, ending = others.get(kind, found)
    others[kind] = length if length == found[0] else None, ending if ending == found[1] else None


def _find_ending(cell: str) -> str:
    """Find the domain of an e-mail address, with its @; of any other text, all of it."""
    return "".join(cell.rpartition("@")[1:])


def _is_whole(row: Row, cells: OpenRow, others: OtherRows, read: Callable[[int, list[str]], Row | RowError]) -> bool:
    """Whether a row without a line break at its end is not cut off, by the rule at the top of this module."""
    longest = max((length for length, _ in others), default=0)
    like_it = others.get((len(cells), row.otp_type))
    if len(cells) < max(cells.columns, longest):
        return False
    if not (cells.columns or like_it) and _find_others(row, ([*cells, more] for more in FURTHER_CELLS), read):
        return False
    if cells.is_quoted or len(cells) > cells.columns > 0:
        return True
    cell = cells[-1].strip()
    length, ending = like_it or (None, None)
    return bool(cell) and all(
        _is_same_but_for_end(row, each, cell, is_as_long=length == len(cell), is_alike=ending == _find_ending(cell))
        for each in _find_others(row, ([*cells[:-1], cell + more] for more in CONTINUATIONS), read)
    )


def _find_others(row: Row, longer: Iterable[list[str]], read: Callable[[int, list[str]], Row | RowError]) -> list[Row]:
    """Find what a row may have been that went on: the longer ones that are read, and are other tokens."""
    read_again = [read(row.row_number, cells) for cells in longer]
    return [each for each in read_again if isinstance(each, Row) and each != row]


def _is_same_but_for_end(row: Row, longer: Row, cell: str, *, is_as_long: bool, is_alike: bool) -> bool:
    """Whether the cell that makes the difference between a row and a longer one is like that of the others."""
    if isinstance(row.otps, Seed) and isinstance(longer.otps, Seed) and row.otps.counter != longer.otps.counter:
        return False
    if replace(longer, otps=row.otps, generated_at=row.generated_at) == row:
        return is_as_long
    return is_alike and ("@" in cell or replace(longer, lot=row.lot, extra=row.extra) == row)
