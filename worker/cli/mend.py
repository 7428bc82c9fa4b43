"""`oathbulk mend`: brings corrected rows into the batch that they belong to."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from worker.audit import this_person
from worker.batches.finding import find_environment
from worker.batches.mending import Mended, Mender, allow_as_before
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.homes import open_installation_with
from worker.cli.load_request import Accept, LoadRequest
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson, BatchName, Offline, Ticket
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
from worker.installation.installation import Installation
from worker.installation.lookups import read_fleet
from worker.intake import Shipment
from worker.preflight.findings import Report
from worker.reports.sentences import describe_mended

Corrected = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="An export of the batch, corrected; or the vendor's file, or the list of who gets what, once more.",
        show_default=False,
    ),
]
NOTHING_MENDED = "Nothing was mended."


@takes_option_sets
def mend(
    batch: BatchName,
    file: Corrected,
    source: SourceOptions,
    offline: Offline = False,
    accept: Accept = None,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Bring corrected rows into the batch that they belong to: an export of it, the vendor's file or the list once
    more."""
    installation = open_installation_with(batch)
    environment = find_environment(installation.database, batch, installation.environment).name
    with installation.database.reading() as connection:
        shipment = allow_as_before(connection, batch, source.open(file, mends=True))
    request = LoadRequest(batch, environment, None, ticket, offline=offline, accepted=frozenset(map(str, accept or ())))
    report = _examine(installation, shipment, request, as_json=as_json)
    refusals = RefusedRows()
    with showing_progress(NOTHING_MENDED, is_quiet=as_json) as progress:
        mender = Mender(
            installation.database,
            installation.keyring,
            this_person(installation.settings, ticket),
            totp_max_age=installation.settings.tuning.totp_max_age,
            on_refused=refusals.add,
            on_progress=progress,
        )
        mended = mender.mend(shipment, batch, report.choose_accepted(request.accepted))
    # A second time it changes nothing.
    listing = shlex.join(["oathbulk", "mend", batch, str(file), *source.to_words(), "--json"])
    _print(installation, batch, mended, refusals, report, listing, as_json=as_json)
    raise typer.Exit(SOME_LEFT if mended.refused else ALL_ACTIVE)


def _examine(installation: Installation, shipment: Shipment, request: LoadRequest, *, as_json: bool) -> Report:
    """Make the preflight of the rows that go, and print what it finds. Raises NotReady if something is asked and was
    not accepted, and what `run_preflight` raises."""
    with showing_progress(NOTHING_MENDED, is_quiet=as_json) as progress:
        report = run_preflight(
            installation,
            shipment,
            request.environment,
            offline=request.offline,
            mends=request.name,
            on_progress=progress,
        )
    if not as_json:
        print_findings(report, request.accepted, choose_told(report, request.accepted))
    elif blocking := report.blocking(request.accepted):
        print_json(report_to_json(shipment.path, report, blocking))
    refuse_unready(shipment.path, report, request, "nothing was mended")
    return report


def _print(
    installation: Installation,
    batch: str,
    mended: Mended,
    refusals: RefusedRows,
    found: Report,
    listing: str,
    *,
    as_json: bool,
) -> None:
    """Print what was mended, and which rows were refused; `listing` is the command that lists these one by one."""
    if as_json:
        rows = {"refused": refusals.to_json(), "rows_refused": mended.refused}
        print_json({"batch": batch} | asdict(mended) | rows | findings_to_json(found))
        return
    refusals.print(listing)
    console.print(describe_mended(batch, mended, read_fleet(installation, batch)), soft_wrap=True)
