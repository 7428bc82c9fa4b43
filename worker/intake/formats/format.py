"""The interface of a file format: what each has to do, so that a shipment can be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from worker.intake.lines import Digest
from worker.intake.rows import Row, RowError


class Format(Protocol):
    """A format of files. Stateless: one object reads any number of files."""

    def is_format_of(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes, some kilobytes, is to be read as this format. If something is
        wrong with it, `read_columns` says so."""
        ...

    def read_columns(self, path: Path, stream: BinaryIO, digest: Digest) -> list[str]:
        """Read the file to its end, and return the names of its columns, as written. The digest is fed every byte.
        Raises UnusableFile if it is of no use as a whole."""
        ...

    def read_rows(self, path: Path, stream: BinaryIO, digest: Digest, now: datetime) -> Iterator[Row | RowError]:
        """Yield every row, good or refused, in the file's order. `now` has a zone. Raises UnusableFile."""
        ...
