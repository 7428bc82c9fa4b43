"""Writes the files that a person names with `-o`, and replaces none in which OTPs or seeds stand, such as those that a
person wrote into an export, and a vendor's."""

import csv
import os
import secrets
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, TypeVar

import typer

from worker.audit import HEADS_FILE
from worker.config.home import DATABASE, find_home
from worker.embedded.home import HOME_FILES
from worker.intake.files import Hints, split_header
from worker.intake.formats import OTP_PAIRS
from worker.intake.rows import Row, SecretMissing, UnusableFile, canonical_column
from worker.intake.shipment import open_shipment
from worker.vault.otps import Seed

T = TypeVar("T")

# Files of an installation in its home, beside its database.
OWN_FILES = (*HOME_FILES, HEADS_FILE, ".env")
# What stands for standard output in `-o`.
STDOUT = Path("-")
# Columns whose cells are OTPs.
_OTPS = ("otp1", "otp2")


def write_output(output: Path, write: Callable[[TextIO], T]) -> T:
    """Write a file that only its owner may read, or to standard output, in UTF-8 and with the line ends that `write`
    chooses. Returns what `write` returns. Raises typer.BadParameter."""
    if output != STDOUT:
        # Written by its descriptor: under the draft's name, another's link may lie by now where they may write as well.
        with (
            _drafting(output) as (_, descriptor),
            os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file,
        ):
            return write(file)
    if sys.stdout is None:
        raise typer.BadParameter("standard output is closed: name a file")
    stream = TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        return write(stream)
    finally:
        # Flushes, and leaves stdout open.
        stream.detach()


def put_in_place(output: Path, write: Callable[[Path], T]) -> T:
    """Let `write` write an empty file that only its owner may read, and put it in its place when it is complete, so
    that nobody finds half of one. Returns what `write` returns. Raises typer.BadParameter."""
    with _drafting(output) as (draft, descriptor):
        os.close(descriptor)
        return write(draft)


@contextmanager
def _drafting(output: Path) -> Iterator[tuple[Path, int]]:
    """Make an empty draft of a file, and put it in the file's place at the end, unless something fails. Yields its path
    and its descriptor, which is to be closed. Raises typer.BadParameter."""
    # Under a name that nobody can guess: in a directory that others may write to, a file or link could wait for us.
    draft = output.with_name(f"{output.name}.{secrets.token_hex(8)}.part")
    try:
        yield draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        draft.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}") from error
    finally:
        # Where a file stands in place of its directory, there is no draft either.
        with suppress(NotADirectoryError):
            draft.unlink(missing_ok=True)


def refuse_unfit(output: Path, *, overwrite: bool | None = None) -> None:
    """Refuse to write where no plain file is: a rename puts the file in its place, and would replace a link or a
    device, such as /dev/stdout; and over the installation's own database and keys. Refuse to replace a CSV in which a
    token has OTPs, for somebody may have pressed it for them, and a vendor's file of seeds, unless `overwrite` is
    given; None: the command has no such option. Raises typer.BadParameter."""
    if output == STDOUT:
        return
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise typer.BadParameter(f"{output} is a link, a device or a directory: name a file")
    # Not Path.resolve, which raises where links lead in a circle.
    is_in_home = os.path.realpath(output.absolute().parent) == os.path.realpath(find_home(os.environ))
    if is_in_home and (output.name in OWN_FILES or output.name.startswith(DATABASE)):
        raise typer.BadParameter(f"{output} is a file of the installation itself: give another name")
    if overwrite or not output.exists():
        return
    try:
        loss = "holds OTPs, which would be lost" if _has_otps(output) else None
        loss = loss or ("holds seeds, which would be lost" if _has_seeds(output) else None)
    except OSError as error:
        raise typer.BadParameter(f"{output} is there, and cannot be read: {error.strerror}") from error
    if loss:
        wish = "" if overwrite is None else ", or --overwrite to replace the file"
        raise typer.BadParameter(f"{output} {loss}: give another name{wish}")


def _has_seeds(path: Path) -> bool:
    """Whether a file can be read as one of seeds, or could with its key. Type and step are said for files that do
    not say them."""
    try:
        shipment = open_shipment(path, hints=Hints(otp_type="totp", time_step=30))
        # No row of pairs has a seed, and an export may have a million.
        if shipment.format is OTP_PAIRS:
            return False
        return any(isinstance(token, Row) and isinstance(token.otps, Seed) for token in shipment.tokens())
    except UnusableFile as fault:
        return isinstance(fault, SecretMissing)


def _has_otps(path: Path) -> bool:
    """Whether a CSV has a cell below otp1 or otp2 that is not blank. What is no CSV has none."""
    places: list[int] = []
    # An OTP is digits in any encoding that a spreadsheet writes a CSV in, but for the one that it calls Unicode text;
    # names in it need not be readable.
    with path.open("rb") as file:
        is_wide = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    with path.open(encoding="utf-16" if is_wide else "utf-8-sig", errors="replace", newline="") as file:
        try:
            delimiter, names = split_header(next((line for line in file if line.strip()), ""))
            places += [place for place, name in enumerate(names) if canonical_column(name) in _OTPS]
            rows = csv.reader(file, delimiter=delimiter)
            return any(row[place].strip() for row in rows for place in places if place < len(row))
        except csv.Error:
            # A file with these columns that cannot be read to its end may hold some.
            return bool(places)
