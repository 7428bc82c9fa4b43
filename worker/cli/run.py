"""`oathbulk run`: loads a shipment and works on it here, with the single-machine stack, until nothing more will
happen; or on a batch that was loaded, or on all that run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.batches.loading import AllActive
from worker.cli.batch_work import NothingRuns, work_on_all, work_on_batch
from worker.cli.exit_codes import ALL_ACTIVE
from worker.cli.homes import find_rehearsal, print_home
from worker.cli.hosts import print_unread_env_file
from worker.cli.load import examine, load_shipment, print_loaded
from worker.cli.load_request import LoadOptions, LoadRequest
from worker.cli.loaded_files import find_batch_named, find_loaded_as, print_all_active
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson
from worker.cli.preflight_report import RefusedRows
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_refused_export
from worker.embedded.home import lock_home
from worker.installation.installation import Installation
from worker.intake import Shipment
from worker.reports.sentences import describe_going_on
from worker.reports.stall import write_run

FileOrBatch = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE|BATCH]",
        help="OTP pairs, or a vendor's seed file (`oathbulk formats`); or the name of a batch that was loaded."
        " Default: all batches that run.",
        show_default=False,
    ),
]


@takes_option_sets
def run(
    asked: LoadOptions,
    source: SourceOptions,
    file: FileOrBatch = None,
    as_json: AsJson = False,
) -> None:
    """Load a shipment and activate it here, and nothing else, until it is finished, also through a person's pause.
    Run again, by the file or by the name of its batch, it goes on where it was; without a name, all batches that run
    go on."""
    if file is None:
        raise typer.Exit(_run_all(asked, source, as_json=as_json))
    request = asked.read(file, source)
    installation = Installation(makes_home=True)
    print_home(installation)
    print_unread_env_file(installation)
    if (batch := find_batch_named(installation, file)) is not None:
        if (asked, source) != (LoadOptions(), SourceOptions()):
            raise typer.BadParameter(f"{batch} is loaded, and its options were given then: {write_run(batch)}")
        with lock_home(installation.settings.home):
            raise typer.Exit(work_on_batch(installation, batch, describe_going_on(batch), as_json=as_json))
    shipment = source.open(file, lambda unread: find_loaded_as(installation, unread, request.environment) is not None)
    raise typer.Exit(run_shipment(installation, shipment, request, as_json=as_json))


def _run_all(asked: LoadOptions, source: SourceOptions, *, as_json: bool) -> int:
    """Work on all batches that run; the exit code."""
    installation = Installation()
    try:
        if (asked, source) != (LoadOptions(), SourceOptions()):
            raise NothingRuns("these options say how a file is loaded: name the FILE")
        if installation.is_empty:
            raise NothingRuns("nothing was loaded here yet, so no batch runs: name a FILE to load")
        print_home(installation)
        print_unread_env_file(installation)
        with lock_home(installation.settings.home):
            return work_on_all(installation, as_json=as_json)
    except NothingRuns as nothing:
        raise typer.BadParameter(str(nothing), param_hint="FILE") from nothing


def run_shipment(
    installation: Installation,
    shipment: Shipment,
    request: LoadRequest,
    how_to_go_on: str | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Load a shipment and work on it; the exit code. `how_to_go_on`: the sentence that is printed if it ends before the
    batch is finished, if that is not by another run."""
    found = examine(installation, shipment, request, as_json=as_json, needs_pingone=True)
    with lock_home(installation.settings.home):
        refusals = RefusedRows()
        try:
            loaded = load_shipment(installation, shipment, request, refusals, found, as_json=as_json, command="run")
        except AllActive as nothing_left:
            print_all_active(shipment.path, nothing_left, as_json=as_json)
            return ALL_ACTIVE
        listing, rehearsal = write_refused_export(loaded.name), find_rehearsal(installation)
        refusals.print(rehearsal.write(listing) if rehearsal else listing)
        if not as_json:
            print_loaded(loaded)
        names_hosts = found is None or not found.requests
        stopped = how_to_go_on or describe_going_on(loaded.name)
        return work_on_batch(installation, loaded.name, stopped, as_json=as_json, names_hosts=names_hosts)
