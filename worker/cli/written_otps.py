"""Keeps files in which OTPs or seeds stand, such as those that a person wrote into an export, and a vendor's: nothing
replaces one unasked."""

from __future__ import annotations

import csv
from pathlib import Path

import typer

from worker.intake import Hints, Row, SecretMissing, UnusableFile, canonical_column, open_shipment
from worker.intake.csv_rows import split_header
from worker.intake.formats import OTP_PAIRS
from worker.vault.otps import Seed

# Columns whose cells are OTPs.
_OTPS = ("otp1", "otp2")


def refuse_to_lose_otps(output: Path, *, can_overwrite: bool = False) -> None:
    """Refuse to replace a CSV in which a token has OTPs, for somebody may have pressed it for them, and a vendor's file
    of seeds. `can_overwrite`: the command has `--overwrite`, which the message names then. Raises
    typer.BadParameter."""
    try:
        loss = _find_loss(output) if output.is_file() else None
    except OSError as error:
        raise typer.BadParameter(f"{output} is there, and cannot be read: {error.strerror}") from error
    if loss:
        wish = ", or --overwrite to replace the file" if can_overwrite else ""
        raise typer.BadParameter(f"{output} {loss}: give another name{wish}")


def _find_loss(path: Path) -> str | None:
    """Find what would be lost with a file, and say it; None if nothing would."""
    if _has_otps(path):
        return "holds OTPs, which would be lost"
    return "holds seeds, which would be lost" if _has_seeds(path) else None


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
