"""Reads journals back: lines of ours, from files that may end in the middle of one or hold something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from models.record import OtpState
from worker.journal.writer import SUFFIX

# Bytes; a line of ours has a few hundred.
LONGEST_LINE = 16_384
LARGEST_NUMBER = 2**63 - 1


class NoJournalFound(Exception):
    """A path is no journal and no directory of journals; the message names it and the cure."""


class Line(BaseModel):
    """How an OTP stood at this time, as `worker.journal.writer` wrote it down."""

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


def parse(text: bytes) -> Line | None:
    """None where it is no whole line of ours."""
    try:
        return Line.model_validate_json(text)
    except ValidationError:
        return None


class Reader:
    """The lines of ours in these files, in their order; those older than `since` are left out. Counts what it passes:
    all lines, those that are none of ours, and the times of the first and last that it gave. Raises OSError."""

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
                    if text.strip() and (line := self._look_at(text)):
                        yield line

    def _look_at(self, text: bytes) -> Line | None:
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
    """The files that are named, and those in the directories that are. Raises NoJournalFound."""
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            files.update(path.glob(f"*{SUFFIX}"))
        elif path.is_file():
            files.add(path)
        else:
            raise NoJournalFound(f"{path} is no journal: name a file, or the directory that OATHBULK_JOURNAL names")
    return sorted(files)
