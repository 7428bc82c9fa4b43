"""Writes a page or a file for machines where `-o` says, and beside it the line by which it is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TextIO, TypeVar

import typer

from worker.cli.output_files import STDOUT, refuse_unfit, write_file, write_output

T = TypeVar("T")
F = TypeVar("F", bound=StrEnum)
# What takes the pieces of a text in their order.
WritePiece = Callable[[str], object]


def tell_form(output: Path, forms: type[F], option: str) -> F:
    """Tell in which of these forms to write, by how the file's name ends; to standard output, in the first. `option`:
    the one that says it. Raises typer.BadParameter."""
    if output == STDOUT:
        return next(iter(forms))
    try:
        return forms(output.suffix.removeprefix(".").lower())
    except ValueError:
        known = ", ".join(f".{form}" for form in forms)
        raise typer.BadParameter(f"{output} ends in none of {known}: say {option}", param_hint="--output") from None


def name_checksum(output: Path) -> Path:
    """Name the file beside `output` that holds its SHA-256."""
    return output.with_name(f"{output.name}.sha256")


def refuse_unfit_pair(output: Path) -> None:
    """Refuse to write where no plain file is, or beside it. Raises typer.BadParameter."""
    if output != STDOUT:
        refuse_unfit(output)
        refuse_unfit(name_checksum(output))


def write_checksummed(output: Path, write: Callable[[WritePiece], T]) -> T:
    """Write a file and the file of its SHA-256; to standard output, only the former. Returns what `write` returns.
    Raises typer.BadParameter, and what `write` raises."""
    if output == STDOUT:
        return write_output(output, lambda file: write(file.write))
    refuse_unfit_pair(output)
    digest = hashlib.sha256()

    def write_pieces(file: TextIO) -> T:
        def write_piece(text: str) -> None:
            digest.update(text.encode())
            file.write(text)

        return write(write_piece)

    made = write_file(output, write_pieces)
    write_file(name_checksum(output), lambda file: file.write(write_checksum_line(digest.hexdigest(), output.name)))
    return made


def write_checksum_line(sha256: str, name: str) -> str:
    """Write the line about a file that `sha256sum -c` reads. A name with a backslash or the end of a line in it is
    escaped, as a backslash in front tells:
    https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html"""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{sha256}  {escaped}\n"
