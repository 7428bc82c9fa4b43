"""`oathbulk inspect` and `oathbulk formats`: what a file is, and which files are read; nothing is loaded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.table import Table

from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson, File
from worker.cli.refused_rows import RefusedRows
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command
from worker.intake import Row, Shipment
from worker.intake.formats.table import FORMATS
from worker.vault.otp import OtpPair
from worker.vault.seed import Seed

# Tokens that are shown, as many as a person compares with the vendor's delivery note.
SHOWN = 5


def formats(as_json: AsJson = False) -> None:
    """List the file formats that are read."""
    if as_json:
        print_json({"formats": [{"name": each.name, "title": each.title} for each in FORMATS.values()]})
        return
    table = Table("format", "what it is, and who writes such files", box=None, pad_edge=False)
    for each in FORMATS.values():
        table.add_row(each.name, each.title)
    console.print(table)


@takes_option_sets
def inspect(file: File, source: SourceOptions, as_json: AsJson = False) -> None:
    """Tell what a file is, how many tokens of which kind it has, and what would be refused and why."""
    found = _Found(source.open(file))
    found.read()
    if as_json:
        print_json(found.to_json())
    else:
        found.print(write_command("inspect", file, [*source.to_words(), "--json"]))
    raise typer.Exit(SOME_LEFT if found.refusals.count else ALL_ACTIVE)


@dataclass(slots=True)
class _Found:
    """What was found in a shipment's file. No part of a secret or an OTP is kept here."""

    shipment: Shipment
    kinds: Counter[str] = field(default_factory=Counter)
    # The first tokens: serial number, kind, and what tells their secrets apart.
    first: list[tuple[str, str, str]] = field(default_factory=list)
    refusals: RefusedRows = field(default_factory=RefusedRows)

    def read(self) -> None:
        """Read the file to its end. Raises UnusableFile."""
        for row in self.shipment.tokens():
            if not isinstance(row, Row):
                self.refusals.add(row)
                continue
            kind = describe_kind(row)
            self.kinds[kind] += 1
            if len(self.first) < SHOWN:
                secret = repr(row.otps.secret) if isinstance(row.otps, Seed) else ""
                self.first.append((row.serial_number, kind, secret))

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.shipment.path),
            "format": self.shipment.format.name,
            "tokens": self.kinds.total(),
            "kinds": dict(self.kinds),
            "columns": self.shipment.columns,
            "first": [{"serial": serial, "kind": kind, "secret": secret} for serial, kind, secret in self.first],
            "rows_refused": self.refusals.count,
            "refused": self.refusals.to_json(),
        }

    def print(self, listing: str) -> None:
        """Print what was found. `listing`: the command that lists every refused row."""
        console.print(f"{self.shipment.path}: {self.shipment.format.title} (--format {self.shipment.format.name})")
        for kind, count in self.kinds.most_common():
            console.print(f"{count:>8} × {kind}")
        if self.refusals.count:
            console.print(f"{self.refusals.count:>8}   refused")
        if self.first:
            table = Table("serial", "kind", "secret", box=None, pad_edge=False)
            for line in self.first:
                table.add_row(*line)
            console.print()
            console.print(table)
            if self.kinds.total() > len(self.first):
                console.print(f"… and {self.kinds.total() - len(self.first)} more.")
        self.refusals.print(listing)


def describe_kind(row: Row) -> str:
    """Describe what a row brings: `HOTP seed, 6 digits` or `TOTP pair`."""
    otps = row.otps
    if otps is None:
        return f"{row.otp_type.upper()} token that comes back, without OTPs"
    if isinstance(otps, OtpPair):
        return f"{row.otp_type.upper()} pair" + ("" if otps.second else " without a second OTP")
    step = f", {otps.time_step} s, {otps.hash_algorithm.upper().replace('SHA', 'SHA-')}" if otps.time_step else ""
    return f"{otps.otp_type.upper()} seed, {otps.digits} digits{step}"
