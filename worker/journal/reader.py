"""Reads journals back: the lines that the writer wrote, from files that may end in the middle of one or hold other
text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from models.record_states import OtpState
from worker.journal.writer import SUFFIX

# Bytes that are read as one line at most; the writer's lines have a few hundred.
LONGEST_LINE = 16_384
# The largest number that a database's column takes.
LARGEST_NUMBER = 2**63 - 1


class NoJournalFound(Exception):
    """A path is neither a journal nor a directory of journals; the message names it and the cure."""


class Line(BaseModel):
    """A line of a journal: the state of one OTP at a time, as `worker.journal.writer` wrote it down."""

    model_config = ConfigDict(frozen=True, strict=True)

    at: AwareDatetime
    batch: int = Field(ge=1, le=LARGEST_NUMBER)
    row: int = Field(ge=1, le=LARGEST_NUMBER)
    device: str = Field(max_length=100)
    lease: str = Field(max_length=100)
    otp: Literal[1, 2]
    state: OtpState
    posts: int = Field(ge=0, le=1000)
    then: str | None = Field(max_length=100)
    # Missing in lines of an earlier version, which knew no seeds.
    next_counter: int | None = Field(default=None, ge=0, le=LARGEST_NUMBER)


def parse(text: bytes) -> Line | None:
    """Read one line; None if it is not a complete line of a journal."""
    try:
        return Line.model_validate_json(text)
    except ValidationError:
        return None


class Reader:
    """Iterates over the lines in these files, in their order, without those that are older than `since`.

    Counts all lines that it read, and those that are not a journal's (`unreadable`), and keeps the times of the first
    and last line that it gave. Raises OSError.
    """

    def __init__(self, files: Sequence[Path], since: datetime | None = None) -> None:
        self._files = files
        self._since = since
        self.lines = 0
        self.unreadable = 0
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None

    def __iter__(self) -> Iterator[Line]:
        for path in self._files:
            with path.open("rb") as file:
                while text := file.readline(LONGEST_LINE):
                    if text.strip() and (line := self._check_line(text)):
                        yield line

    def _check_line(self, text: bytes) -> Line | None:
        """Read and count a line; None if it is unreadable or too old."""
        self.lines += 1
        line = parse(text)
        if line is None:
            self.unreadable += 1
        elif self._since is None or line.at >= self._since:
            self.first_at = min(self.first_at or line.at, line.at)
            self.last_at = max(self.last_at or line.at, line.at)
            return line
        return None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """List the journals among these paths: files, and all journals in directories. Raises NoJournalFound."""
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            files.update(path.glob(f"*{SUFFIX}"))
        elif path.is_file():
            files.add(path)
        else:
            raise NoJournalFound(f"{path} is no journal: name a file, or the directory that OATHBULK_JOURNAL names")
    return sorted(files)
