"""What a preflight has found, as commands print it: a table, JSON, a CSV of every row; and how they refuse."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.text import Text

from worker.cli.console import console, error_console
from worker.cli.load_request import LoadRequest
from worker.cli.refused_rows import RefusedRows
from worker.cli.typed_commands import write_listing_command
from worker.preflight.findings import Finding, Level
from worker.preflight.preflight import NotReady, Report
from worker.reports.export import format_cell

# Findings that the refused rows tell themselves, where these are printed.
TOLD_BY_ROWS = frozenset({"rows_refused", "in_database"})
# How a level is drawn: a mark and its colour.
MARKS = {Level.STOP: ("✗", "red"), Level.ASK: ("?", "yellow"), Level.NOTE: ("·", "dim")}


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
