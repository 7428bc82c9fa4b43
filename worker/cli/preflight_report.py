"""What a preflight has found, as commands print it: a table, JSON, a CSV of every row; which rows are refused; and how
they refuse."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from rich.text import Text

from worker.cli.console import console, error_console
from worker.cli.load_request import LoadRequest
from worker.cli.typed_commands import write_listing_command
from worker.intake import RowError
from worker.preflight.findings import Finding, Level, NotReady, Report
from worker.reports.export import format_cell

# Findings that the refused rows tell themselves, where these are printed.
TOLD_BY_ROWS = frozenset({"rows_refused", "in_database"})
# How a level is drawn: a mark and its colour.
MARKS = {Level.STOP: ("✗", "red"), Level.ASK: ("?", "yellow"), Level.NOTE: ("·", "dim")}
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
            error_console.print(_describe_rows(reason, errors), soft_wrap=True)
        more = self.count - sum(map(len, shown.values()))
        if more or len(shown) < self.count:
            others = f"… and {more} more. " if more else ""
            error_console.print(f"{others}Each row by itself: {listing}", soft_wrap=True)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"row": error.row_number, "serial": error.serial_number, "reason": error.reason} for error in self._kept
        ]


def write_verdicts(report: Report, file: TextIO) -> int:
    """Write a CSV of every row: its number, serial number, verdict and reason. Returns how many rows."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", "serial", "verdict", "reason"))
    lines = report.verdicts.lines()
    writer.writerows([row, *map(format_cell, cells)] for row, *cells in lines)
    return len(lines)


def collect_refused(report: Report) -> RefusedRows:
    """Collect the rows that a load refuses, in the file's order."""
    refusals = RefusedRows()
    for error in sorted(report.verdicts.refused, key=lambda error: error.row_number):
        refusals.add(error)
    return refusals


def findings_to_json(report: Report) -> dict[str, Any]:
    return {"findings": [finding.to_json() for finding in report.findings], "not_known": report.unknown}


def report_to_json(file: Path, report: Report, blocking: Sequence[Finding]) -> dict[str, Any]:
    verdicts = report.verdicts
    return {
        "file": str(file),
        "rows": len(verdicts.good),
        "rows_refused": len(verdicts.refused),
        "refused": collect_refused(report).to_json(),
        "left_out": len(verdicts.left_out),
        "doubtful": len(verdicts.doubts),
        **findings_to_json(report),
        "blocking": [finding.name for finding in blocking],
        "requests": report.requests,
    }


def print_findings(report: Report, accepted: frozenset[str], told: frozenset[str] = frozenset()) -> None:
    """Print the findings, the gravest first and each on a line, and then what is not known. `told`: findings that are
    said otherwise, and left out."""
    findings = [finding for finding in report.findings if finding.name not in told]
    for finding in sorted(findings, key=lambda finding: list(Level).index(finding.level)):
        note = " (accepted)" if finding.level == Level.ASK and finding.name in accepted else ""
        serials = f" Such as {', '.join(finding.serials)}." if finding.serials else ""
        console.print(Text(*MARKS[finding.level]), f"{finding.name}{note}: {finding.text}{serials}")
    for unknown in report.unknown:
        console.print(Text(*MARKS[Level.NOTE]), f"not known: {unknown}")


def choose_told(report: Report, accepted: frozenset[str]) -> frozenset[str]:
    """Choose the findings that `load` and `run` say in other words: of rows that they print, and where nothing of the
    file is left to load."""
    if report.verdicts.are_all_left_out:
        return frozenset({"left_out"})
    blocking = report.blocking(accepted)
    is_refused = any(finding.level == Level.STOP for finding in blocking)
    return TOLD_BY_ROWS | {"nothing_to_load"} if is_refused or not blocking else frozenset()


def refuse_unready(file: Path, report: Report, request: LoadRequest, nothing: str = "nothing was loaded") -> None:
    """Raise NotReady if something stops the shipment, or is asked and was not accepted; print before what helps.
    `nothing`: what was not done therefore."""
    blocking = report.blocking(request.accepted)
    if not blocking:
        return
    if stops := [finding.text for finding in blocking if finding.level == Level.STOP]:
        collect_refused(report).print(write_listing_command(file, request))
        raise NotReady(f"{file}: {nothing}. {' '.join(stops)}")
    names = [finding.name for finding in blocking]
    error_console.print(f"Accept it: {write_accepting_command(names)}", soft_wrap=True)
    raise NotReady(f"{file}: {nothing}, since it is asked about {', '.join(names)}. Correct it, or accept it.")


def write_accepting_command(names: Sequence[str]) -> str:
    """Write the command that was typed, with these findings accepted."""
    words = ["oathbulk", *sys.argv[1:]]
    # What comes after -- is no option.
    end = words.index("--") if "--" in words else len(words)
    words[end:end] = [word for name in names for word in ("--accept", name)]
    return shlex.join(words)


def _describe_rows(reason: str, errors: Sequence[RowError]) -> str:
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
