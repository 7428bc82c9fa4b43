"""`oathbulk check`: what a shipment is, what a run would do, and all that can be known before a call is spent."""

import csv
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.table import Table

from worker.cli.console import console, error_console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import AsJson, File, parse_zone
from worker.cli.output_files import refuse_unfit, write_output
from worker.cli.preflight import (
    TOLD_BY_ROWS,
    describe_all_active,
    print_findings,
    print_refused_rows,
    report_to_json,
    run_preflight,
    write_accepting_command,
)
from worker.cli.shipment_options import LoadOptions, takes_option_sets, write_listing_command
from worker.config.settings import ConfigError
from worker.installation.installation import Installation
from worker.intake.formats import FORMATS
from worker.intake.rows import Row
from worker.intake.shipment import Shipment
from worker.observability.wording import agree, count_things, format_duration, write_share
from worker.preflight.findings import ExpectedWork, Level, Report, expect_work
from worker.reports.export import format_cell
from worker.reports.sentences import describe_dates
from worker.vault.otps import Seed


@takes_option_sets
def check(
    file: File,
    asked: LoadOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write every row with its verdict, as a CSV.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a shipment is, what a run would do, and everything that can be found before a call is spent; change
    nothing."""
    if output is not None:
        refuse_unfit(output)
        asked.source.refuse_to_replace(file, output)
    installation, shipment = Installation(), asked.source.open(file)
    try:
        installation.environment(asked.environment)
    except ConfigError as error:
        if not asked.offline:
            raise ConfigError(f"{error}; or look at the file alone, with --offline") from error
    report = run_preflight(installation, shipment, asked, undone="nothing was changed", is_quiet=as_json)
    work = None if report.batch else expect_work(report, shipment.switches, asked.hours)
    if as_json:
        print_json(_to_json(installation, shipment, asked, report, work))
    else:
        _print_file(shipment, report)
        if work is not None:
            _print_work(installation, shipment, asked, report, work)
        _print_findings(shipment, asked, report)
    if output is not None:
        write_output(output, partial(_write_verdicts, report))
    is_well = report.is_complete and not report.blocking(asked.accepted) and not report.verdicts.refused
    raise typer.Exit(ALL_ACTIVE if is_well else SOME_LEFT)


def _write_verdicts(report: Report, file: TextIO) -> None:
    """Write a CSV of every row: its number, serial number, verdict and reason."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", "serial", "verdict", "reason"))
    writer.writerows([row, *map(format_cell, cells)] for row, *cells in report.verdicts.lines())


def _to_json(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    report: Report,
    work: ExpectedWork | None,
) -> dict[str, Any]:
    """All that is told; `run` is null where the file is a batch already."""
    listed, verdicts, settings = shipment.assignment, report.verdicts, installation.settings
    rate = {"seconds": round(report.seconds), "rate": report.rate, "is_rate_bought": report.is_rate_bought}
    limits = {"otp_post_budget": settings.otp_post_budget, "max_attempts": settings.max_attempts}
    chosen = {"hours": str(asked.hours) if asked.hours else None, "share": asked.share, "canary": asked.canary}
    return {
        "format": shipment.format.name,
        "sha256": shipment.digest,
        "list": str(listed.path) if listed else None,
        "list_sha256": listed.digest if listed else None,
        "columns": shipment.columns,
        "tokens": verdicts.kinds.total(),
        "kinds": dict(verdicts.kinds),
        "first": [
            {"kind": kind, "serial": row.serial_number, "secret": _tell_secret(row)}
            for kind, row in verdicts.first.items()
        ],
        **report_to_json(shipment.path, report, report.blocking(asked.accepted)),
        "run": work and {"environment": asked.environment} | asdict(work) | rate | limits | chosen,
    }


def _print_file(shipment: Shipment, report: Report) -> None:
    """Say what the file is, how many tokens of which kind it has, each with the first of them; and by which SHA-256
    file and list are known."""
    console.print(f"{shipment.path}: {shipment.format.title} (--format {shipment.format.name})")
    for kind, count in report.verdicts.kinds.most_common():
        row = report.verdicts.first[kind]
        secret = f" ({_tell_secret(row)})" if _tell_secret(row) else ""
        console.print(f"{count:>8,} × {kind}: {row.serial_number}{secret}{' …' if count > 1 else ''}")
    console.print(f"SHA-256 {shipment.digest}  {shipment.path}", soft_wrap=True)
    if shipment.assignment is not None:
        console.print(f"SHA-256 {shipment.assignment.digest}  {shipment.assignment.path}", soft_wrap=True)


def _tell_secret(row: Row) -> str:
    """Tell what tells a seed apart, and no part of it; empty for a pair."""
    return repr(row.otps.secret) if isinstance(row.otps, Seed) else ""


def _print_work(
    installation: Installation, shipment: Shipment, asked: LoadOptions, report: Report, work: ExpectedWork
) -> None:
    """Say how many rows are ready, what a run would do with them, for how long, and in which hours."""
    verdicts = report.verdicts
    console.print()
    if verdicts.are_all_left_out:
        console.print(describe_all_active(shipment.path, verdicts.rows))
        return
    ready, refused = work.tokens - len(verdicts.doubts), len(verdicts.refused)
    told = f"{ready:,} of {count_things(verdicts.rows, 'row')} {agree(ready, 'is', 'are')} ready"
    console.print(f"{told}, {refused:,} refused." if refused else f"{told}.")
    if work.tokens:
        console.print(_describe_changes(work, shipment, asked))
        console.print(_describe_time(report, work, asked))
        if dates := describe_dates(Counter(row.not_before for row in verdicts.good), parse_zone(asked.source.zone)):
            console.print(dates)
        settings = installation.settings
        budget = f"At most {count_things(settings.otp_post_budget, 'OTP')} to a device"
        console.print(f"{budget}, and {count_things(settings.max_attempts, 'attempt')} a token.")


def _describe_changes(work: ExpectedWork, shipment: Shipment, asked: LoadOptions) -> str:
    """Say what a run would change in PingOne."""
    limit = "" if work.is_exact else "at most "
    steps = []
    if shipment.switches.may_import:
        steps.append(f"import {limit}{count_things(work.imports, 'token')}")
    if shipment.switches.may_pair:
        steps.append(f"make {limit}{count_things(work.devices, 'device')}")
    changes = f"{', '.join(steps)} and " if steps else ""
    changes += f"activate {count_things(work.tokens, 'token')}"
    return f"A run would {changes} in the environment {asked.environment}."


def _describe_time(report: Report, work: ExpectedWork, asked: LoadOptions) -> str:
    """Say how many requests that are, and how long they take at which pace and in which hours."""
    pace = "that the license has" if report.is_rate_bought else "with which it begins"
    told = (
        f"About {count_things(work.requests, 'request')}: {format_duration(report.seconds)} at the"
        f" {report.rate:g} a second {pace}."
    )
    if asked.share is not None:
        told += f" It keeps to {write_share(asked.share)} of what the license permits."
    if asked.hours is not None and work.days is not None:
        told += f" It works from {asked.hours} only: on {count_things(work.days, 'day')}."
    if asked.canary is not None:
        told += f" It pauses after {count_things(asked.canary, 'record')}."
    return told


def _print_findings(shipment: Shipment, asked: LoadOptions, report: Report) -> None:
    """Print the refused rows, the findings, and what to do about them."""
    blocking = report.blocking(asked.accepted)
    if report.findings or report.unknown:
        console.print()
    if report.batch is None:
        print_refused_rows(report.verdicts.refused, write_listing_command(shipment.path, asked))
    print_findings(report, asked.accepted, TOLD_BY_ROWS)
    if any(finding.level == Level.STOP for finding in blocking):
        console.print("It cannot be loaded like this: correct what is marked with ✗ first.", style="red")
    elif blocking:
        names = [finding.name for finding in blocking]
        console.print(f"Correct these, or accept them: {write_accepting_command(names)}", soft_wrap=True)
    if not report.is_complete:
        error_console.print("PingOne could not be asked: mend that, or leave it out by --offline.")


def formats(as_json: AsJson = False) -> None:
    """List the file formats that are read."""
    if as_json:
        print_json({"formats": [{"name": each.name, "title": each.title} for each in FORMATS.values()]})
        return
    table = Table("format", "what it is, and who writes such files", box=None, pad_edge=False)
    for each in FORMATS.values():
        table.add_row(each.name, each.title)
    console.print(table)
