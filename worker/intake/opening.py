"""Opens a file that a person named."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from worker.intake.rows import UnusableFile


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises UnusableFile, for a pipe too: it cannot be read twice, and to open it may take for
    ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        cure = "Check its path, and that this user may read it"
        raise UnusableFile(path, f"cannot be read ({error.strerror or error})", cure) from error
