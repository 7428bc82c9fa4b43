"""Rows of a file that were refused, printed for a person or as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from worker.cli.console import error_console
from worker.intake import RowError

# Reasons that are printed, and numbers or ranges of rows of each: as many as a person reads.
SHOWN = 20
# Rows that `--json` lists at most; it bounds the memory, whatever the file's size.
KEPT = 10_000
# What differs in reasons that are otherwise the same: the row that another batch has of the token.
_OF_ROW = re.compile(r" \(row \d+\)")


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
        """Print the refused rows on stderr, those with the same reason in one line, and how many more there are.
        `listing`: the command that lists each by itself."""
        groups: dict[str, list[RowError]] = {}
        for error in self._kept:
            groups.setdefault(_OF_ROW.sub("", error.reason), []).append(error)
        shown = dict([*groups.items()][:SHOWN])
        for reason, errors in shown.items():
            error_console.print(_describe(reason, errors), soft_wrap=True)
        more = self.count - sum(map(len, shown.values()))
        if more or len(shown) < self.count:
            others = f"… and {more} more. " if more else ""
            error_console.print(f"{others}Each row by itself: {listing}", soft_wrap=True)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"row": error.row_number, "serial": error.serial_number, "reason": error.reason} for error in self._kept
        ]


def _describe(reason: str, errors: Sequence[RowError]) -> str:
    """Say which rows are refused for a reason; a row alone with its token, and with all of its reason."""
    if len(errors) > 1:
        ranges = [*_name_ranges(error.row_number for error in errors)]
        more = f" and {len(ranges) - SHOWN} more places" if len(ranges) > SHOWN else ""
        return f"{len(errors)} rows ({', '.join(ranges[:SHOWN])}{more}): {reason}"
    (error,) = errors
    serial = f" ({error.serial_number})" if error.serial_number else ""
    return f"row {error.row_number}{serial}: {error.reason}"


def _name_ranges(numbers: Iterator[int]) -> Iterator[str]:
    """Write ascending numbers, those that follow each other as a range: 3, 8-12, 40."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0])
