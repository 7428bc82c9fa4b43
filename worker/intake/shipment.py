"""A shipment's file: opened, found usable as a whole, and read row by row as often as one likes."""

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

# Enough to find the names that tell a workbook from another zip archive.
HEAD = 4096


def read_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Shipment:
    """A usable file. `columns` are the header's names as written, `fingerprint` the SHA-256 of its bytes."""

    path: Path
    format: Format
    columns: list[str]
    fingerprint: str
    clock: Callable[[], datetime] = field(default=read_clock, repr=False)

    def rows(self) -> Iterator[Row | RowError]:
        """Every row, good or refused, in the file's order; each call reads the file anew.

        Raises UnusableFile if the file is gone or is another than when it was opened. The latter is known for
        certain only at its end: commit nothing before.
        """
        digest = hashlib.sha256()
        with open_file(self.path) as stream:
            yield from self.format.read_rows(self.path, stream, digest, self.clock())
        if digest.hexdigest() != self.fingerprint:
            cure = "Nothing of it should be kept: let the program that writes it finish, and load it again"
            raise UnusableFile(self.path, "the file changed while it was read", cure)


def open_shipment(path: Path, *, clock: Callable[[], datetime] = read_clock) -> Shipment:
    """Reads the file once, to its end: what makes it unusable as a whole is known before a row is used.

    `clock` gives the time, aware, that a `generated_at` is measured against. Raises UnusableFile.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
        chosen = choose_format(path, stream.read(HEAD))
        stream.seek(0)
        columns = chosen.read_columns(path, stream, digest)
    return Shipment(path, chosen, columns, digest.hexdigest(), clock)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A pipe is no file to us: it can't be read twice, and opening one may wait forever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a CSV file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        cure = "Check its path, and that this user may read it"
        raise UnusableFile(path, f"cannot be read ({error.strerror or error})", cure) from error
