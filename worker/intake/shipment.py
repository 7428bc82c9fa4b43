"""A shipment's file: it is checked as a whole when it is opened, and can then be read row by row any number of
times."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, Format, Hints, OpenFile
from worker.intake.formats.table import choose_format, find_format
from worker.intake.identities import explain_missing_ids
from worker.intake.rows import Row, RowError, UnusableFile


def read_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Shipment:
    """A file that can be used. `columns` are the header's names as written, `fingerprint` the SHA-256 of its bytes."""

    path: Path
    format: Format
    hints: Hints
    columns: list[str]
    fingerprint: str
    clock: Callable[[], datetime] = field(default=read_clock, repr=False)

    def rows(self) -> Iterator[Row | RowError]:
        """Read every row, good or refused, in the file's order; each call reads the file from its beginning. A good one
        has the ids of its user and its device.

        Raises UnusableFile if the file is gone, or has changed since it was opened. Whether it has changed is known
        only at its end: commit nothing before.
        """
        digest = hashlib.sha256()
        with open_file(self.path) as stream:
            file = OpenFile(self.path, stream, digest, self.hints)
            for row in self.format.read_rows(file, self.clock()):
                missing = explain_missing_ids(row) if isinstance(row, Row) else None
                yield RowError(row.row_number, missing, row.serial_number) if missing else row
        if digest.hexdigest() != self.fingerprint:
            cure = "Nothing of it should be kept: let the program that writes it finish, and load it again"
            raise UnusableFile(self.path, "the file changed while it was read", cure)


def open_shipment(
    path: Path, *, format_name: str | None = None, hints: Hints = NO_HINTS, clock: Callable[[], datetime] = read_clock
) -> Shipment:
    """Read the file once, to its end, so that what makes it unusable as a whole is known before a row is used.

    `format_name`: the format of this name reads it, whatever it looks like; None: its first bytes tell. `clock` returns
    the time, with its zone, that a `generated_at` is compared with. Raises UnusableFile.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        chosen = find_format(path, format_name) if format_name else choose_format(path, head)
        columns = chosen.read_columns(OpenFile(path, stream, digest, hints))
    return Shipment(path, chosen, hints, columns, digest.hexdigest(), clock)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises UnusableFile, for a pipe too: it cannot be read twice, and to open it may take for
    ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a shipment's file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        cure = "Check its path, and that this user may read it"
        raise UnusableFile(path, f"cannot be read ({error.strerror or error})", cure) from error
