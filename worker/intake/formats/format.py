"""What a file format of shipments has to do."""

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
        """Whether a file that begins with these bytes, some kilobytes, is to be read as this format. What is wrong with
        it then is told by `read_columns`."""
        ...

    def read_columns(self, path: Path, stream: BinaryIO, digest: Digest) -> list[str]:
        """Read the file to its end; the names of its columns, as written. The digest sees every byte. Raises
        UnusableFile where not a single row can be used."""
        ...

    def read_rows(self, path: Path, stream: BinaryIO, digest: Digest, now: datetime) -> Iterator[Row | RowError]:
        """Every row, good or refused, in the file's order. `now` is aware. Raises UnusableFile."""
        ...
