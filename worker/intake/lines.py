"""From bytes to lines: decodes them, bounds the memory that they take, and computes the file's digest meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from worker.intake.foreign_files import BYTE_ORDER_MARK, SAVE_AS
from worker.intake.rows import UnusableFile

# Bytes of a line, at most. A row of pairs has some 150; a longer line is no CSV, and to read on would fill the memory.
MAX_LINE = 64 * 1024
# Bytes that are read at once.
CHUNK = 64 * 1024


class Digest(Protocol):
    """What we need of a hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...


def read_lines(path: Path, stream: BinaryIO, digest: Digest) -> Iterator[str]:
    """Yield the lines with their ends (CRLF, LF or CR), without the byte order mark; the digest is fed every byte.

    Lines are split at these ends alone: `str.splitlines` would split at characters, too, that may stand in a name.
    Raises UnusableFile for a line beyond MAX_LINE bytes, a NUL, or what is not UTF-8.
    """
    number, tail = 0, b""
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        if not number and not tail:
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
        lines = (tail + chunk).splitlines(keepends=True)
        # The last line may go on in the next chunk, and a CR at its end may be half of a CRLF.
        tail = lines.pop() if lines else b""
        for line in lines:
            number += 1
            yield _decode(path, line, number)
        if len(tail) > MAX_LINE:
            raise _make_too_long(path, number + 1)
    if tail:
        yield _decode(path, tail, number + 1)


def _decode(path: Path, line: bytes, number: int) -> str:
    """Decode one line. Raises UnusableFile."""
    if len(line) > MAX_LINE:
        raise _make_too_long(path, number)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start + 1} of the line)"
        raise UnusableFile(path, problem, SAVE_AS, row_number=number) from None
    if "\0" in text:
        cure = "The file is damaged or no text file: export it again as text"
        raise UnusableFile(path, "holds a NUL byte", cure, row_number=number)
    return text


def _make_too_long(path: Path, number: int) -> UnusableFile:
    cure = "See whether it is the right file, and give every row a line of its own"
    return UnusableFile(path, f"the line is longer than {MAX_LINE} bytes", cure, row_number=number)
