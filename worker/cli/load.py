"""`oathbulk load`: makes a batch of a shipment's file; and what `run` and `rehearse` need of that."""

from __future__ import annotations

from dataclasses import replace

import typer

from worker.audit import this_person
from worker.batches.finding import NameTaken
from worker.batches.loading import AllActive, Loaded, Loader, describe_known
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.load_request import LoadOptions, LoadRequest
from worker.cli.loaded_files import find_loaded_as, loaded_to_json, print_all_active
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson, File
from worker.cli.preflight import run_preflight
from worker.cli.preflight_report import (
    RefusedRows,
    choose_told,
    findings_to_json,
    print_findings,
    refuse_unready,
    report_to_json,
)
from worker.cli.progress import showing_progress
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command, write_listing_command, write_refused_export
from worker.installation.installation import Installation
from worker.intake import Shipment, UnusableFile
from worker.observability.counting import agree, count_things
from worker.observability.progress import OnProgress, tell_nobody
from worker.preflight.findings import Report


@takes_option_sets
def load(
    file: File,
    asked: LoadOptions,
    source: SourceOptions,
    as_json: AsJson = False,
) -> None:
    """Load a shipment into the database, for workers that run elsewhere."""
    request = asked.read(file, source)
    installation, refusals = Installation(makes_home=True), RefusedRows()
    shipment = source.open(file, lambda unread: find_loaded_as(installation, unread, request.environment) is not None)
    found = examine(installation, shipment, request, as_json=as_json)
    try:
        loaded = load_shipment(installation, shipment, request, refusals, found, as_json=as_json)
    except AllActive as nothing_left:
        print_all_active(file, nothing_left, as_json=as_json)
        raise typer.Exit(ALL_ACTIVE) from None
    _print(loaded, refusals, found, as_json=as_json)
    raise typer.Exit(SOME_LEFT if loaded.rows_refused else ALL_ACTIVE)


def _print(loaded: Loaded, refusals: RefusedRows, found: Report | None, *, as_json: bool) -> None:
    """Print what was loaded, and which rows were refused; the findings of its preflight were printed before, unless as
    JSON."""
    if as_json:
        told = findings_to_json(found) if found else {}
        print_json(loaded_to_json(loaded) | {"refused": refusals.to_json()} | told)
    else:
        print_loaded(loaded)
        refusals.print(write_refused_export(loaded.name))


def examine(
    installation: Installation,
    shipment: Shipment,
    request: LoadRequest,
    *,
    as_json: bool = False,
    needs_pingone: bool = False,
) -> Report | None:
    """Make the preflight of a shipment, and print what it finds; None if the shipment is a batch already. Raises
    NotReady if it must not be loaded, and what `run_preflight` raises."""
    # What is wrong with database or keys is told before PingOne is asked.
    _ = installation.database, installation.keyring
    if find_loaded_as(installation, shipment, request.environment):
        return None
    name, offline = request.environment, request.offline
    with showing_progress("Nothing was loaded.", is_quiet=as_json) as progress:
        report = run_preflight(
            installation, shipment, name, offline=offline, needs_pingone=needs_pingone, on_progress=progress
        )
    if not as_json:
        print_findings(report, request.accepted, choose_told(report, request.accepted))
    elif blocking := report.blocking(request.accepted):
        print_json(report_to_json(shipment.path, report, blocking))
    refuse_unready(shipment.path, report, request)
    return report


def load_shipment(
    installation: Installation,
    shipment: Shipment,
    request: LoadRequest,
    refusals: RefusedRows,
    found: Report | None,
    *,
    as_json: bool = False,
    command: str = "load",
) -> Loaded:
    """Load the shipment as a batch, unless it is one already. `found`: its preflight; `command`: the one that was
    typed. Raises UnusableFile, NameTaken, OtherHours, AllActive."""
    environment = installation.environment(request.environment)
    accepted = found.choose_accepted(request.accepted) if found else []
    rows = found.verdicts.rows if found else None
    try:
        with showing_progress("Nothing was loaded.", is_quiet=as_json) as progress:
            loader = _make_loader(
                installation, request, refusals, lambda what, done, _=None: progress(what, done, rows)
            )
            loaded = loader.load(shipment, request.name, request.canary, request.hours, accepted)
    except UnusableFile:
        # The error says that not one row is left; the refused rows say why.
        refusals.print(write_listing_command(shipment.path, request))
        raise
    except NameTaken as taken:
        renamed = replace(request, name=taken.free)
        raise NameTaken(taken.name, taken.free, write_command(command, shipment.path, renamed.to_words())) from taken
    # Last, so that a load that was refused does not change the pace.
    if request.share is not None:
        installation.pace_commands(request.ticket).set_share(environment.license, request.share)
    return loaded


def _make_loader(
    installation: Installation, request: LoadRequest, refusals: RefusedRows, on_progress: OnProgress = tell_nobody
) -> Loader:
    """Make what loads a shipment, in the name of the person at this terminal."""
    return Loader(
        installation.database,
        installation.keyring,
        installation.environment(request.environment),
        this_person(installation.settings, request.ticket),
        totp_max_age=installation.settings.tuning.totp_max_age,
        first_records=installation.settings.tuning.first_records,
        on_refused=refusals.add,
        on_progress=on_progress,
    )


def print_loaded(loaded: Loaded) -> None:
    """Say in a sentence or two what was loaded."""
    records, refused, left_out = count_things(loaded.total, "record"), loaded.rows_refused, loaded.left_out
    if loaded.is_new:
        rows = f"{count_things(refused, 'row')} {agree(refused, 'was', 'were')} refused"
        console.print(f"Loaded {records} as batch {loaded.name}; {rows}.")
        if left_out:
            whose, was = agree(left_out, "its token is", "their tokens are"), agree(left_out, "was", "were")
            console.print(f"{count_things(left_out, 'row')} {was} left out: {whose} active already.")
        if loaded.out_of_hours is not None:
            console.print(f"It is {loaded.out_of_hours}.")
        return
    console.print(f"{describe_known(loaded)} Nothing was loaded again.")
