"""Rows of a file that were refused, printed for a person or as JSON."""

from __future__ import annotations

from typing import Any

from worker.cli.console import error_console
from worker.intake import RowError

# Rows that are printed: as many as a person reads.
SHOWN = 20
# Rows that `--json` lists at most; it bounds the memory, whatever the file's size.
KEPT = 10_000


class RefusedRows:
    """Counts every refused row, and keeps the first of them to show."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[RowError] = []

    def add(self, error: RowError) -> None:
        """Count a refused row, and keep it if it is among the first."""
        self.count += 1
        if len(self._kept) < KEPT:
            self._kept.append(error)

    def print(self, listing: str) -> None:
        """Print the first refused rows with their reasons on stderr, and how many more there are. `listing`: the
        command that lists them all."""
        for error in self._kept[:SHOWN]:
            serial = f" ({error.serial_number})" if error.serial_number else ""
            error_console.print(f"row {error.row_number}{serial}: {error.reason}")
        if self.count > SHOWN:
            error_console.print(f"… and {self.count - SHOWN} more, which this lists: {listing}", soft_wrap=True)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"row": error.row_number, "serial": error.serial_number, "reason": error.reason} for error in self._kept
        ]
