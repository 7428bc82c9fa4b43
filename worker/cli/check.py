"""`oathbulk check`: everything that can be known of a shipment before an OTP is spent; it changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.console import console, error_console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.load_request import Accept, LoadRequest
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson, EnvironmentName, File, Offline
from worker.cli.output_files import refuse_unfit, write_file
from worker.cli.preflight import run_preflight
from worker.cli.preflight_report import (
    TOLD_BY_ROWS,
    collect_refused,
    print_findings,
    print_outcome,
    report_to_json,
    write_accepting_command,
    write_verdicts,
)
from worker.cli.progress import showing_progress
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_listing_command
from worker.cli.written_otps import refuse_to_lose_otps
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.installation.installation import Installation
from worker.preflight.findings import Level
from worker.preflight.preflight import Report


@takes_option_sets
def check(
    file: File,
    source: SourceOptions,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    offline: Offline = False,
    accept: Accept = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write every row with its verdict, as a CSV.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find everything that can be known of a shipment before an OTP is spent; change nothing."""
    if output is not None:
        refuse_unfit(output)
        refuse_to_lose_otps(output)
        source.refuse_to_replace(file, output)
    accepted = frozenset(map(str, accept or ()))
    report = check_file(file, source, environment, accepted, offline=offline, as_json=as_json)
    if output is not None:
        write_file(output, partial(write_verdicts, report))
    raise typer.Exit(choose_exit_code(report, accepted))


def check_file(
    file: Path, source: SourceOptions, environment: str, accepted: frozenset[str], *, offline: bool, as_json: bool
) -> Report:
    """Examine a shipment, and print what was found. Raises what opening it and `run_preflight` raise."""
    with showing_progress("Nothing was changed.", is_quiet=as_json) as progress:
        report = run_preflight(Installation(), source.open(file), environment, offline=offline, on_progress=progress)
    blocking = report.blocking(accepted)
    if as_json:
        print_json(report_to_json(file, report, blocking))
        return report
    request = LoadRequest(file.stem, environment, offline=offline, source=source)
    if report.batch is None:
        collect_refused(report).print(write_listing_command(file, request))
    print_findings(report, accepted, TOLD_BY_ROWS)
    if report.batch is None:
        print_outcome(file, report)
    if any(finding.level == Level.STOP for finding in blocking):
        console.print("It cannot be loaded like this: mend what is marked with ✗ first.", style="red")
    elif blocking:
        names = [finding.name for finding in blocking]
        console.print(f"Mend these, or accept them: {write_accepting_command(names)}", soft_wrap=True)
    if not report.is_complete:
        error_console.print("PingOne could not be asked: mend that, or leave it out by --offline.")
    return report


def choose_exit_code(report: Report, accepted: frozenset[str]) -> int:
    """Choose the exit code: whether a person should look at something."""
    is_well = report.is_complete and not report.blocking(accepted) and not report.verdicts.refused
    return ALL_ACTIVE if is_well else SOME_LEFT
