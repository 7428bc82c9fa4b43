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

from worker.intake.formats.format import Format
from worker.intake.formats.table import choose_format
from worker.intake.rows import Row, RowError, UnusableFile

# Bytes from which a file's kind is told: enough to find the names that tell a workbook from another zip archive.
HEAD = 4096


def read_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Shipment:
    """A file that can be used. `columns` are the header's names as written, `fingerprint` the SHA-256 of its bytes."""

    path: Path
    format: Format
    columns: list[str]
    fingerprint: str
    clock: Callable[[], datetime] = field(default=read_clock, repr=False)

    def rows(self) -> Iterator[Row | RowError]:
        """Read every row, good or refused, in the file's order; each call reads the file from its beginning.

        Raises UnusableFile if the file is gone, or has changed since it was opened. Whether it has changed is known
        only at its end: commit nothing before.
        """
        digest = hashlib.sha256()
        with open_file(self.path) as stream:
            yield from self.format.read_rows(self.path, stream, digest, self.clock())
        if digest.hexdigest() != self.fingerprint:
            cure = "Nothing of it should be kept: let the program that writes it finish, and load it again"
            raise UnusableFile(self.path, "the file changed while it was read", cure)


def open_shipment(path: Path, *, clock: Callable[[], datetime] = read_clock) -> Shipment:
    """Read the file once, to its end, so that what makes it unusable as a whole is known before a row is used.

    `clock` returns the time, with its zone, that a `generated_at` is compared with. Raises UnusableFile.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
        chosen = choose_format(path, stream.read(HEAD))
        stream.seek(0)
        columns = chosen.read_columns(path, stream, digest)
    return Shipment(path, chosen, columns, digest.hexdigest(), clock)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises UnusableFile, for a pipe too: it cannot be read twice, and to open it may take for
    ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a CSV file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        cure = "Check its path, and that this user may read it"
        raise UnusableFile(path, f"cannot be read ({error.strerror or error})", cure) from error
