"""Lists of serial numbers, such as those of people who leave: a CSV with a column for them, or one on each line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.intake.cut_off import CUT_OFF, OpenRow
from worker.intake.foreign_files import GIVE_ANOTHER, find_foreign
from worker.intake.formats.bare_csv import Cells, check_cells, read_cells
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, OpenFile
from worker.intake.formats.header_csv import find_names, read_table
from worker.intake.formats.otp_pairs.columns import normalise
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.serials import SERIAL, explain_serial
from worker.intake.opening import open_file
from worker.intake.rows import COLUMNS, UnusableFile

# What the header of a list may call the column of the serial numbers.
MEANINGS = {normalise(name): "serial" for name in (COLUMNS[0].name, *COLUMNS[0].synonyms)}
GIVE_LIST = "Give a CSV with a header that names the column serial, or serial numbers alone, one on each line"


@dataclass(frozen=True, slots=True)
class SerialList:
    """Serial numbers as a list has them, each once; `digest` is the SHA-256 of its bytes."""

    serial_numbers: tuple[str, ...]
    digest: str


def open_serial_list(path: Path) -> SerialList:
    """Read a list of serial numbers. One row that cannot be used refuses all of it, since a token that is left out, or
    taken for another, would be noticed by nobody. Raises UnusableFile."""
    digest, serials = hashlib.sha256(), dict[str, str]()
    with open_file(path) as stream:
        head = stream.read(HEAD)
        if found := find_foreign(head):
            problem, cure = found
            raise UnusableFile(path, problem, GIVE_LIST if cure == GIVE_ANOTHER else cure)
        stream.seek(0)
        pick, rows = _open_rows(OpenFile(path, stream, digest, NO_HINTS), head)
        for row_number, cells in rows:
            serial = _read_serial(path, row_number, cells, pick)
            serials.setdefault(serial.lower(), serial)
    if not serials:
        raise UnusableFile(path, "names no token", GIVE_LIST)
    return SerialList(tuple(serials.values()), digest.hexdigest())


def _open_rows(file: OpenFile, head: bytes) -> tuple[Callable[[Cells], str], Iterator[tuple[int, Cells]]]:
    """Open the rows below the header, or all where none names a serial number; and say how one is picked from a row."""
    names = find_names(head, MEANINGS)
    if names & MEANINGS.keys():
        header, rows = read_table(file, MEANINGS, GIVE_LIST)
        return lambda cells: header.pick(cells)[0]["serial"], rows
    if len(names) > 1 or not any(map(str.isdigit, "".join(names))):
        problem = "the list has no column for the serial" if names else "names no token"
        raise UnusableFile(file.path, problem, GIVE_LIST)
    return lambda cells: check_cells(cells, 1, 1)[0], read_cells(file, ",")


def _read_serial(path: Path, row_number: int, cells: Cells, pick: Callable[[Cells], str]) -> str:
    try:
        serial = pick(cells)
    except RowRefused as refused:
        raise UnusableFile(path, str(refused), GIVE_LIST, row_number=row_number) from None
    # With one character less, it may be another token's.
    if isinstance(cells, OpenRow) and not cells.is_quoted and cells[-1] == serial:
        raise UnusableFile(path, CUT_OFF, "Nothing was done", row_number=row_number)
    if not SERIAL.fullmatch(serial):
        raise UnusableFile(path, explain_serial(serial), "Nothing was done", row_number=row_number)
    return serial
