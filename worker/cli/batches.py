"""`oathbulk pause`, `resume`, `cancel`, `replay`."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from models.reason import Reason
from worker.audit import this_person
from worker.batches import Batches, WindowChange
from worker.cli.console import console
from worker.cli.installation import Installation
from worker.cli.load import Ticket
from worker.cli.window import Hours, Zone, given_window
from worker.timetable import Outside

BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)]


def pause(batch: BatchName, ticket: Ticket = None) -> None:
    """Start no new call; calls in flight are settled."""
    _batches(ticket).pause(batch)
    console.print(f"{batch} is paused. Go on with: oathbulk resume {quote(batch)}")


def resume(
    batch: BatchName,
    window: Hours = None,
    zone: Zone = None,
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Run all day from now on, whatever window the batch had.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Also end the hold in which all workers of its license wait.")
    ] = False,
    ticket: Ticket = None,
) -> None:
    """Let a paused batch run again; with --window or --no-window, in other hours from now on."""
    hours = given_window(window, zone)
    if hours is not None and no_window:
        raise typer.BadParameter("says the opposite of --window: give one of them", param_hint="--no-window")
    change = WindowChange(hours) if hours is not None or no_window else None
    installation = Installation()
    lift_in = installation.license_of if now else None
    if outside := _batches(ticket, installation).resume(batch, change, lift_in=lift_in):
        console.print(_waits(batch, outside))
    else:
        console.print(f"{batch} runs." + (" A hold of its workers ends within seconds." if now else ""))


def cancel(batch: BatchName, ticket: Ticket = None) -> None:
    """Give up what is not active yet; records whose fate is open are read first."""
    cancelled = _batches(ticket).cancel(batch)
    console.print(f"{batch} is cancelled: {cancelled} records. Take it back with: oathbulk replay {quote(batch)}")


def replay(
    batch: BatchName,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="Only dead letters of this reason; may be given several times.")
    ] = None,
    ticket: Ticket = None,
) -> None:
    """Put dead letters, and cancelled records, back to pending, and the batch to running."""
    replayed = _batches(ticket).replay(batch, reason)
    console.print(f"{replayed.records} records of {batch} go again.")
    if replayed.outside is not None:
        console.print(_waits(batch, replayed.outside))
    if replayed.need_fresh_otps:
        console.print(
            f"{replayed.need_fresh_otps} dead letters stay: an OTP of theirs was refused or used, or their token was "
            "loaded again since. Load them again with fresh OTPs, or replay the later batch."
        )


def _waits(batch: str, outside: Outside) -> str:
    return f"{batch} is {outside}. To let it run now, and all day: oathbulk resume {quote(batch)} --no-window"


def _batches(ticket: str | None, installation: Installation | None = None) -> Batches:
    installation = installation or Installation()
    return Batches(installation.database, this_person(installation.settings, ticket))
