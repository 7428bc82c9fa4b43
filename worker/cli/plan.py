"""`oathbulk plan`: writes what a load would do, as a page that is decided upon before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.check import choose_exit_code
from worker.cli.checksummed_files import name_checksum, refuse_unfit_pair, tell_form, write_checksummed
from worker.cli.console import console
from worker.cli.load_request import LoadOptions, LoadRequest
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import File
from worker.cli.output_files import STDOUT
from worker.cli.plan_filling import PlanFiller
from worker.cli.preflight import run_preflight
from worker.cli.preflight_report import print_findings, write_accepting_command
from worker.cli.progress import showing_progress
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command
from worker.cli.written_otps import refuse_to_lose_otps
from worker.installation.installation import Installation
from worker.pages.plan_contents import Plan
from worker.pages.plan_files import PlanForm, render_plan
from worker.pages.plan_sentences import describe_purpose, list_obstacles, name_next_step
from worker.preflight.findings import Level
from worker.preflight.preflight import Report


@takes_option_sets
def plan(
    file: File,
    asked: LoadOptions,
    source: SourceOptions,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - is standard output.")
    ],
    # `--format` says how the shipment is read, here as in every command that reads one.
    form: Annotated[
        PlanForm | None, typer.Option("--output-format", help="Default: as the name of -o ends, and html for -.")
    ] = None,
) -> None:
    """Write what a run would do, for those who decide on it; change nothing. `run --plan HASH` keeps to it."""
    form = form or tell_form(output, PlanForm, "--output-format")
    refuse_unfit_pair(output)
    if output != STDOUT:
        refuse_to_lose_otps(output)
        source.refuse_to_replace(file, output)
    request = asked.read(file, source)
    made, report = _make_plan(file, source, request)
    write_checksummed(output, lambda write: write(render_plan(form, made)))
    if output != STDOUT:
        _print(made, report, request.accepted, output)
    raise typer.Exit(choose_exit_code(report, request.accepted))


def _make_plan(file: Path, source: SourceOptions, request: LoadRequest) -> tuple[Plan, Report]:
    """Examine a shipment, and fill in its plan. Raises what opening it and `run_preflight` raise, and ConfigError."""
    installation, shipment = Installation(), source.open(file)
    # Before PingOne is asked: a plan needs an environment, even where nothing is asked.
    installation.environment(request.environment)
    with showing_progress("Nothing was changed.") as progress:
        report = run_preflight(
            installation, shipment, request.environment, offline=request.offline, on_progress=progress
        )
    asked = [finding.name for finding in report.blocking(request.accepted) if finding.level == Level.ASK]
    starting, again = write_command("run", file, request.to_words()), write_accepting_command(asked)
    return PlanFiller(installation, shipment, request).fill(report, starting, again), report


def _print(made: Plan, report: Report, accepted: frozenset[str], output: Path) -> None:
    """Print what the plan says in short, and where it stands."""
    print_findings(report, accepted)
    for sentence in (describe_purpose(made), *list_obstacles(made)):
        console.print(sentence)
    console.print(f"Wrote plan {made.hash} to {output}, and its SHA-256 to {name_checksum(output).name}.")
    console.print(f"{name_next_step(made)}: {made.command}", soft_wrap=True)
