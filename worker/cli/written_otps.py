"""Keeps OTPs that a person has written into an export: no other export takes its place unasked."""

from __future__ import annotations

import csv
from pathlib import Path

import typer

from worker.intake import canonical_column
from worker.intake.formats.header_csv import split_header

# Columns whose cells are OTPs.
_OTPS = ("otp1", "otp2")


def refuse_to_lose_otps(output: Path) -> None:
    """Refuse to replace a CSV in which a token has OTPs: somebody may have pressed it for them. Raises
    typer.BadParameter."""
    try:
        has_otps = _has_otps(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} is there, and cannot be read: {error.strerror}") from error
    if has_otps:
        raise typer.BadParameter(
            f"{output} holds OTPs, which would be lost: give another name to -o, or --overwrite to replace the file"
        )


def _has_otps(path: Path) -> bool:
    """Whether a CSV has a cell below otp1 or otp2 that is not blank. What is no CSV has none."""
    if not path.is_file():
        return False
    # An OTP is digits in any encoding that a spreadsheet writes a CSV in; names in it need not be readable.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = next((line for line in file if line.strip()), "")
        delimiter, names = split_header(line)
        places = [place for place, name in enumerate(names) if canonical_column(name) in _OTPS]
        try:
            rows = csv.reader(file, delimiter=delimiter)
            return any(row[place].strip() for row in rows for place in places if place < len(row))
        except csv.Error:
            # A file with these columns that cannot be read to its end may hold some.
            return bool(places)
