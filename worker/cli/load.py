"""`oathbulk load`."""

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
from worker.config.settings import DEFAULT_ENVIRONMENT
from worker.installation.installation import Installation
from worker.intake import RowError, Shipment, UnusableFile, open_shipment
from worker.rules.hours import DailyHours


def load(
    file: File,
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
    shipment = open_shipment(file)
    refusals = RefusedRows()
    if check:
        total = _count(shipment, refusals)
        facts = {"file": str(file), "rows": total, "rows_refused": refusals.count}
    else:
        wish = Wish(batch or file.stem, environment, canary, ticket, hours, share)
        loaded = load_shipment(Installation(), shipment, wish, refusals)
        facts = {
            "batch": loaded.name,
            "total": loaded.total,
            "rows_refused": loaded.rows_refused,
            "is_new": loaded.is_new,
        }
        if not as_json:
            print_loaded(loaded)
    if as_json:
        print_json(facts | {"refused": refusals.to_json()})
    else:
        refusals.print()
        if check:
            console.print(f"{file}: {facts['rows']} rows can be loaded, {refusals.count} are refused.")
    raise typer.Exit(SOME_LEFT if facts["rows_refused"] else ALL_ACTIVE)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks of a load."""

    name: str
    environment: str = DEFAULT_ENVIRONMENT
    canary: int | None = None
    ticket: str | None = None
    window: DailyHours | None = None
    share: float | None = None


def load_shipment(installation: Installation, shipment: Shipment, wish: Wish, refusals: RefusedRows) -> Loaded:
    """The batch that the shipment is now, or was already. Raises UnusableFile, NameTaken, OtherHours."""
    environment = installation.environment(wish.environment)
    actor = this_person(installation.settings, wish.ticket)
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
        loaded = loader.load(shipment, wish.name, wish.canary, wish.window)
    except UnusableFile:
        # It says that not one row is left; why, the rows say.
        refusals.print()
        raise
    # Last: what was refused changes nothing.
    if wish.share is not None:
        installation.pace_commands(wish.ticket).set_share(environment.license, wish.share)
    return loaded


def print_loaded(loaded: Loaded) -> None:
    if loaded.is_new:
        console.print(f"Loaded {loaded.total} records as batch {loaded.name}; {loaded.rows_refused} rows were refused.")
        if loaded.out_of_hours is not None:
            console.print(f"It is {loaded.out_of_hours}.")
    else:
        console.print(f"This file is batch {loaded.name} already: {loaded.total} records. Nothing was loaded again.")


def _count(shipment: Shipment, refusals: RefusedRows) -> int:
    """Rows that can be loaded; a token or device that stands on two rows is found here too."""
    count, seen = 0, dict[str, int]()
    for row in shipment.rows():
        if isinstance(row, RowError):
            refusals.add(row)
            continue
        earlier = seen.get(row.serial_number) or seen.get(row.device_id)
        if earlier:
            reason = f"its serial number or device stands on row {earlier} already: keep one of the two rows"
            refusals.add(RowError(row.row_number, reason, row.serial_number))
            continue
        seen[row.serial_number] = seen[row.device_id] = row.row_number
        count += 1
    return count
