"""`oathbulk check`: everything that can be known of a shipment before an OTP is spent; it changes nothing."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.table import Table
from rich.text import Text

from worker.cli.batch_display import format_duration
from worker.cli.console import console, print_json
from worker.cli.failures import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import AsJson, EnvironmentName, File
from worker.cli.output_files import refuse_unfit, write_file
from worker.cli.own_redis import settings_with_redis
from worker.cli.source_options import SourceOptions, takes_source
from worker.config.settings import DEFAULT_ENVIRONMENT, Environment
from worker.installation.installation import Installation
from worker.pingone.clock_drift import measure_drift
from worker.preflight.findings import Finding, Level
from worker.preflight.preflight import Report, TenantCheck, check_shipment
from worker.process.parts import Parts
from worker.reports.export import format_cell
from worker.tenants.resync import read_resync

# Requests a second with which a batch begins where no environment says otherwise.
USUAL_RATE: float = Environment.model_fields["rate"].default
# How a level is drawn: a mark and its colour.
MARKS = {Level.STOP: ("✗", "red"), Level.ASK: ("?", "yellow"), Level.NOTE: ("·", "dim")}

Accept = Annotated[list[str], typer.Option("--accept", metavar="NAME", help="Go on in spite of this finding.")]


@takes_source
def check(
    file: File,
    source: SourceOptions,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    offline: Annotated[bool, typer.Option("--offline", help="Ask PingOne nothing.")] = False,
    accept: Accept = [],  # noqa: B006 - Typer makes a list of its own
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write every row with its verdict, as a CSV.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find everything that can be known of a shipment before an OTP is spent; change nothing."""
    if output is not None:
        refuse_unfit(output)
    installation = Installation()
    shipment = source.open(file)
    rate = USUAL_RATE if offline else installation.environment(environment).rate
    report = check_shipment(shipment, installation.settings, rate)
    if not offline:
        _ask_pingone(installation, environment, report)
    blocking = report.blocking(frozenset(accept))
    if output is not None:
        write_file(output, partial(_write_verdicts, report))
    if as_json:
        print_json(_to_json(str(file), report, blocking))
    else:
        _print(str(file), report, frozenset(accept), blocking)
    raise typer.Exit(SOME_LEFT if blocking else ALL_ACTIVE)


def _ask_pingone(installation: Installation, name: str, report: Report) -> None:
    """Add to the report what PingOne tells. Raises PingOneError, ConfigError, EmbeddedError."""
    environment = installation.environment(name)
    with installation.database.reading() as connection:
        known = read_resync(connection, environment.environment_id)
    with settings_with_redis(installation) as settings:
        clients = Parts(settings, installation.environment).clients
        # Asked for once, so that wrong credentials are one failure.
        clients.access_tokens(environment).get()
        asking = TenantCheck(clients.reads(environment), environment, settings)
        asking.add_to(report, known, lambda: measure_drift(environment, deadline=settings.call_deadline))


def _write_verdicts(report: Report, file: TextIO) -> int:
    """Write a CSV of every row: its number, serial number, verdict and reason. Returns how many rows."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", "serial", "verdict", "reason"))
    lines = report.verdicts.lines()
    writer.writerows([row, *map(format_cell, cells)] for row, *cells in lines)
    return len(lines)


def _to_json(file: str, report: Report, blocking: list[Finding]) -> dict[str, Any]:
    verdicts = report.verdicts
    return {
        "file": file,
        "rows": len(verdicts.good),
        "rows_refused": len(verdicts.refused),
        "doubtful": len(verdicts.doubts),
        "findings": [finding.to_json() for finding in report.findings],
        "not_known": report.unknown,
        "blocking": [finding.name for finding in blocking],
        "requests": report.requests,
        "seconds": round(report.seconds),
    }


def _print(file: str, report: Report, accepted: frozenset[str], blocking: list[Finding]) -> None:
    """Print the findings as a table, and what they come to."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for finding in sorted(report.findings, key=lambda finding: list(Level).index(finding.level)):
        mark, colour = MARKS[finding.level]
        note = " (accepted)" if finding.level == Level.ASK and finding.name in accepted else ""
        serials = f" Such as {', '.join(finding.serials)}." if finding.serials else ""
        table.add_row(Text(mark, style=colour), Text(f"{finding.name}{note}"), Text(f"{finding.text}{serials}"))
    for unknown in report.unknown:
        table.add_row(Text("·", style="dim"), Text("not_known"), Text(unknown))
    console.print(table)
    ready = len(report.verdicts.good) - len(report.verdicts.doubts)
    console.print(
        f"{file}: {ready} of {len(report.verdicts.good) + len(report.verdicts.refused)} rows are ready; "
        f"about {format_duration(report.seconds)} at the pace that it begins with."
    )
    asked = [finding.name for finding in blocking if finding.level == Level.ASK]
    if len(asked) < len(blocking):
        console.print("It cannot be loaded like this: mend what is marked with ✗ first.", style="red")
    elif asked:
        console.print(f"Mend these, or accept them: {' '.join(f'--accept {name}' for name in asked)}")
