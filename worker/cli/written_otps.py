"""Keeps files in which OTPs stand, such as those that a person wrote into an export: nothing replaces one unasked."""

from __future__ import annotations

import csv
from pathlib import Path

import typer

from worker.intake import canonical_column
from worker.intake.formats.header_csv import split_header

# Columns whose cells are OTPs.
_OTPS = ("otp1", "otp2")


def refuse_to_lose_otps(output: Path, *, can_overwrite: bool = False) -> None:
    """Refuse to replace a CSV in which a token has OTPs: somebody may have pressed it for them. `can_overwrite`: the
    command has `--overwrite`, which the message names then. Raises typer.BadParameter."""
    try:
        has_otps = output.is_file() and _has_otps(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} is there, and cannot be read: {error.strerror}") from error
    if has_otps:
        wish = ", or --overwrite to replace the file" if can_overwrite else ""
        raise typer.BadParameter(f"{output} holds OTPs, which would be lost: give another name{wish}")


def _has_otps(path: Path) -> bool:
    """Whether a CSV has a cell below otp1 or otp2 that is not blank. What is no CSV has none."""
    places: list[int] = []
    # An OTP is digits in any encoding that a spreadsheet writes a CSV in; names in it need not be readable.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            delimiter, names = split_header(next((line for line in file if line.strip()), ""))
            places += [place for place, name in enumerate(names) if canonical_column(name) in _OTPS]
            rows = csv.reader(file, delimiter=delimiter)
            return any(row[place].strip() for row in rows for place in places if place < len(row))
        except csv.Error:
            # A file with these columns that cannot be read to its end may hold some.
            return bool(places)
