"""The interface of a file format: what each has to do, so that a shipment can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from worker.intake.lines import Digest
from worker.intake.rows import Row, RowError, UnusableFile
from worker.vault.seed import HashAlgorithm, OtpType

# How the characters of a secret are to be read.
Encoding = Literal["hex", "base32", "base64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a person says of a file beside it, each by an option of the command line; None where nothing was said.

    What the file says itself is not replaced by a hint.
    """

    # `--encoding`: of the secrets, where their characters may be read in two ways.
    encoding: Encoding | None = None
    # `--otp-type`, `--digits`, `--time-step` (seconds), `--hash`: of all tokens, where the file does not say it.
    otp_type: OtpType | None = None
    digits: int | None = None
    time_step: int | None = None
    hash_algorithm: HashAlgorithm | None = None
    # `--key-file`: the pre-shared key that the vendor sent apart from the file.
    key: bytes | None = field(default=None, repr=False)
    # `--password-file`: the password that the vendor sent apart from the file.
    password: bytes | None = field(default=None, repr=False)
    # `oathbulk mend`: the rows belong to a batch that is loaded, whose records have what the file lacks.
    mends: bool = False


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is being read from its beginning. Every byte that is read from `stream` is fed to `digest`, by the
    format."""

    path: Path
    stream: BinaryIO
    digest: Digest
    hints: Hints


class SecretMissing(UnusableFile):
    """The file is encrypted, and the key or the password that opens it was not given."""

    def __init__(self, path: Path, kind: Literal["key", "password"]) -> None:
        what = "a pre-shared key" if kind == "key" else "a password"
        cure = f"Give the {kind} that the vendor sent apart from it, by --{kind}-file"
        super().__init__(path, f"is encrypted with {what}", cure)
        self.kind = kind


class Format(Protocol):
    """A format of files. Stateless: one object reads any number of files."""

    @property
    def name(self) -> str:
        """What `--format` calls it: lower case, with hyphens."""
        ...

    @property
    def title(self) -> str:
        """What it is and who writes such files, in a few words, for `oathbulk formats`."""
        ...

    def is_format_of(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes, some kilobytes, is to be read as this format. If something is
        wrong with it, `read_columns` says so."""
        ...

    def read_columns(self, file: OpenFile) -> list[str]:
        """Read the file to its end, and return the names of the columns that an export repeats: those of its header as
        written; without a header, `serial` and the names of what else a row keeps. Raises UnusableFile if it is of no
        use as a whole, or if a hint is missing."""
        ...

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        """Yield every row, good or refused, in the file's order. `now` has a zone. Raises UnusableFile."""
        ...
