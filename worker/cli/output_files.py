"""Writes the files that a person names, such as with `-o`. An existing file is replaced only with `--overwrite`:
somebody may have pressed tokens for the OTPs in it."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, TypeVar

import typer

from worker.audit import HEADS_FILE
from worker.config.settings import DATABASE, find_home
from worker.embedded.home import HOME_FILES

T = TypeVar("T")

# Files of an installation in its home, beside its database.
OWN_FILES = (*HOME_FILES, HEADS_FILE, ".env")
# Means standard output in `-o`.
STDOUT = Path("-")


def write_output(output: Path, write: Callable[[TextIO], T]) -> T:
    """Write a file that only its owner may read, or to standard output, in UTF-8 and with the line ends that `write`
    chooses. Returns what `write` returns. Raises typer.BadParameter."""
    if output != STDOUT:
        # Write through the descriptor, not the path: if others can write to the directory, one of them may have
        # replaced the draft with a link.
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
    """Create an empty draft that only its owner may read, let `write` fill it, and move it into place when it is
    complete, so that nobody finds half a file. Returns what `write` returns. Raises typer.BadParameter."""
    with _drafting(output) as (draft, descriptor):
        os.close(descriptor)
        return write(draft)


@contextmanager
def _drafting(output: Path) -> Iterator[tuple[Path, int]]:
    """Make an empty draft of a file, and put it in the file's place at the end, unless something fails. Yields the
    draft's path and its descriptor, which the caller must close. Raises typer.BadParameter."""
    # The name is unpredictable: in a directory that others can write to, a file or link could be waiting under a known
    # one.
    draft = output.with_name(f"{output.name}.{secrets.token_hex(8)}.part")
    try:
        yield draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        draft.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}") from error
    finally:
        # If a part of the directory path is a file, no draft was created.
        with suppress(NotADirectoryError):
            draft.unlink(missing_ok=True)


def refuse_unfit(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unless `overwrite` is given. Always refuse the installation's own database and keys, and
    any link or device such as /dev/stdout, which the final rename would replace. Raises typer.BadParameter."""
    if output == STDOUT:
        return
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise typer.BadParameter(f"{output} is a link, a device or a directory: name a file")
    # Not Path.resolve, which raises if links form a circle.
    is_in_home = os.path.realpath(output.absolute().parent) == os.path.realpath(find_home(os.environ))
    if is_in_home and (output.name in OWN_FILES or output.name.startswith(DATABASE)):
        raise typer.BadParameter(f"{output} belongs to the installation itself: give another name")
    if output.exists() and not overwrite:
        raise typer.BadParameter(f"{output} exists: give another name, or --overwrite to replace it")
