"""`oathbulk load`: makes a batch of a shipment's file; and what `run` and `rehearse` need of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from worker.audit import this_person
from worker.batches.loading import Loaded, Loader
from worker.cli.console import console, print_json
from worker.cli.failures import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import (
    AsJson,
    Canary,
    EnvironmentName,
    File,
    Hours,
    NewBatchName,
    Share,
    Ticket,
    Zone,
    parse_hours,
)
from worker.cli.refused_rows import RefusedRows
from worker.cli.source_options import SourceOptions, takes_source
from worker.config.settings import DEFAULT_ENVIRONMENT
from worker.installation.installation import Installation
from worker.intake import Shipment, UnusableFile
from worker.preflight.files import read_rows
from worker.rules.hours import DailyHours


@takes_source
def load(
    file: File,
    source: SourceOptions,
    batch: NewBatchName = None,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    canary: Canary = None,
    share: Share = None,
    window: Hours = None,
    zone: Zone = None,
    ticket: Ticket = None,
    check: Annotated[bool, typer.Option(help="Only inspect the file: nothing is written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load a shipment into the database, for workers that run elsewhere."""
    hours = parse_hours(window, zone)
    shipment = source.open(file)
    refusals = RefusedRows()
    if check:
        rows_refused = _check(shipment, refusals, as_json=as_json)
    else:
        request = LoadRequest(batch or file.stem, environment, canary, ticket, hours, share)
        loaded = load_shipment(Installation(), shipment, request, refusals)
        _print(loaded, refusals, as_json=as_json)
        rows_refused = loaded.rows_refused
    raise typer.Exit(SOME_LEFT if rows_refused else ALL_ACTIVE)


def _check(shipment: Shipment, refusals: RefusedRows, *, as_json: bool) -> int:
    """Inspect the file without loading it, and print what was found. Returns how many rows are refused."""
    verdicts, _ = read_rows(shipment)
    for error in sorted(verdicts.refused, key=lambda error: error.row_number):
        refusals.add(error)
    rows = len(verdicts.good)
    if as_json:
        facts = {"file": str(shipment.path), "rows": rows, "rows_refused": refusals.count}
        print_json(facts | {"refused": refusals.to_json()})
    else:
        refusals.print()
        console.print(f"{shipment.path}: {rows} rows can be loaded, {refusals.count} are refused.")
    return refusals.count


def _print(loaded: Loaded, refusals: RefusedRows, *, as_json: bool) -> None:
    """Print what was loaded, and which rows were refused."""
    if as_json:
        facts = {
            "batch": loaded.name,
            "total": loaded.total,
            "rows_refused": loaded.rows_refused,
            "already_active": loaded.already_active,
            "is_new": loaded.is_new,
        }
        print_json(facts | {"refused": refusals.to_json()})
    else:
        print_loaded(loaded)
        refusals.print()


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a person asks for when a shipment is loaded: the options of `load` and `run`. `share` is a part of the
    ceiling, above 0 and up to 1; `canary` the number of records after which the batch pauses."""

    name: str
    environment: str = DEFAULT_ENVIRONMENT
    canary: int | None = None
    ticket: str | None = None
    hours: DailyHours | None = None
    share: float | None = None


def load_shipment(
    installation: Installation, shipment: Shipment, request: LoadRequest, refusals: RefusedRows
) -> Loaded:
    """Load the shipment as a batch, unless it is one already. Raises UnusableFile, NameTaken, OtherHours."""
    environment = installation.environment(request.environment)
    actor = this_person(installation.settings, request.ticket)
    loader = Loader(
        installation.database,
        installation.keyring,
        environment,
        actor,
        totp_max_age=installation.settings.totp_max_age,
        first_records=installation.settings.first_records,
        on_refused=refusals.add,
    )
    try:
        loaded = loader.load(shipment, request.name, request.canary, request.hours)
    except UnusableFile:
        # The error says that not one row is left; the refused rows say why.
        refusals.print()
        raise
    # Last, so that a load that was refused does not change the pace.
    if request.share is not None:
        installation.pace_commands(request.ticket).set_share(environment.license, request.share)
    return loaded


def print_loaded(loaded: Loaded) -> None:
    """Say in a sentence or two what was loaded."""
    if loaded.is_new:
        console.print(f"Loaded {loaded.total} records as batch {loaded.name}; {loaded.rows_refused} rows were refused.")
        if loaded.already_active:
            console.print(f"{loaded.already_active} rows were left out: their tokens are active already.")
        if loaded.parent:
            console.print(f"Its rows come back from batch {loaded.parent}.")
        if loaded.out_of_hours is not None:
            console.print(f"It is {loaded.out_of_hours}.")
    else:
        console.print(f"This file is batch {loaded.name} already: {loaded.total} records. Nothing was loaded again.")
