"""`oathbulk pause`, `resume`, `cancel`, `replay`."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from models.reason import Reason
from worker.audit import this_person
from worker.batches import Batches
from worker.cli.console import console
from worker.cli.installation import Installation
from worker.cli.load import Ticket

BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)]


def pause(batch: BatchName, ticket: Ticket = None) -> None:
    """Start no new call; calls in flight are settled."""
    _batches(ticket).pause(batch)
    console.print(f"{batch} is paused. Go on with: oathbulk resume {quote(batch)}")


def resume(batch: BatchName, ticket: Ticket = None) -> None:
    """Let a paused batch run again."""
    _batches(ticket).resume(batch)
    console.print(f"{batch} runs.")


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
    if replayed.need_fresh_otps:
        console.print(
            f"{replayed.need_fresh_otps} dead letters stay: an OTP of theirs was refused or used, or their token was "
            "loaded again since. Load them again with fresh OTPs, or replay the later batch."
        )


def _batches(ticket: str | None) -> Batches:
    installation = Installation()
    return Batches(installation.database, this_person(installation.settings, ticket))
