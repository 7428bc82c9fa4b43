"""`oathbulk pause`, `resume`, `cancel` and `replay`: the commands that change what a batch does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Annotated

import typer

from models.reason import Reason
from models.record_states import Status
from worker.batches.commands import HoursChange
from worker.batches.hours import OutOfHours
from worker.cli.console import console
from worker.cli.options import BatchName, Hours, Ticket, Zone, parse_hours
from worker.fleet.processes import read_processes
from worker.installation.installation import Installation
from worker.leases.not_replayed import NotReplayed, Why
from worker.reports.stall import Fleet, explain_stall


def pause(batch: BatchName, ticket: Ticket = None) -> None:
    """Start no new call; calls in flight are settled."""
    Installation().batches(ticket).pause(batch)
    console.print(f"{batch} is paused. Go on with: oathbulk resume {quote(batch)}")


def resume(
    batch: BatchName,
    window: Hours = None,
    zone: Zone = None,
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Run all day from now on, whatever hours the batch had.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Also end the hold in which all workers of its license wait.")
    ] = False,
    ticket: Ticket = None,
) -> None:
    """Let a paused batch run again; with --window or --no-window, in other hours from now on."""
    hours = parse_hours(window, zone)
    if hours is not None and no_window:
        raise typer.BadParameter("says the opposite of --window: give one of them", param_hint="--no-window")
    change = HoursChange(hours) if hours is not None or no_window else None
    installation = Installation()
    lift_in = installation.license_of if now else None
    if outside := installation.batches(ticket).resume(batch, change, lift_in=lift_in):
        console.print(_describe_waiting(batch, outside))
    else:
        hold = " A hold of its workers ends within seconds." if now else ""
        console.print(_describe_workers(installation, batch) + hold)


def _describe_workers(installation: Installation, batch: str) -> str:
    """Say whether any worker works on the batch now that it may run, and if none does, why."""
    with installation.database.reading() as connection:
        fleet = Fleet(read_processes(installation.database, connection))
    return f"{batch} runs." if fleet.alive else f"{batch} may run, but nothing works on it. {explain_stall(fleet)}"


def cancel(batch: BatchName, ticket: Ticket = None) -> None:
    """Give up what is not active yet; records whose fate is open are read first."""
    cancelled = Installation().batches(ticket).cancel(batch)
    console.print(f"{batch} is cancelled: {cancelled} records. Take it back with: oathbulk replay {quote(batch)}")


def replay(
    batch: BatchName,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="Only dead letters of this reason; may be given several times.")
    ] = None,
    ticket: Ticket = None,
) -> None:
    """Put dead letters, and cancelled records, back to pending, and the batch to running."""
    replayed = Installation().batches(ticket).replay(batch, reason)
    console.print(f"{replayed.records} records of {batch} go again.")
    if replayed.out_of_hours is not None:
        console.print(_describe_waiting(batch, replayed.out_of_hours))
    if replayed.not_replayed:
        console.print(describe_staying(batch, replayed.not_replayed))
    elif reason and not replayed.records:
        console.print(f"No dead letter of {batch} has the reason {' or '.join(reason)}.")


def describe_staying(batch: str, stay: Sequence[NotReplayed]) -> str:
    """Say which records a replay has left as they are: for each reason how many, why, and what to do."""
    lines = [f"{sum(group.records for group in stay)} stay as they are:"]
    lines += [f"  {group.records} {group.reason}: {_explain_staying(group)}" for group in stay]
    lines += [
        f"As a file, to write fresh OTPs into and load: oathbulk export {quote(batch)} {chosen} -o FILE"
        for chosen in _choose_for_export(stay)
    ]
    return "\n".join(lines)


def _choose_for_export(stay: Sequence[NotReplayed]) -> Iterator[str]:
    """Write the options of `oathbulk export` that choose the records which need fresh OTPs."""
    lacking = {group.reason for group in stay if group.why == Why.FRESH_OTPS}
    if reasons := sorted(lacking - {Status.CANCELLED}):
        yield " ".join(f"--reason {reason}" for reason in reasons)
    if Status.CANCELLED in lacking:
        yield f"--status {Status.CANCELLED}"


def _explain_staying(group: NotReplayed) -> str:
    """Say why these records cannot go again."""
    match group.why:
        case Why.FRESH_OTPS:
            return "fresh OTPs are needed, since those that they have were refused, used or too old."
        case Why.LOADED_AGAIN:
            return f"loaded again since, in batch {group.batch}."
        case Why.IN_PROGRESS:
            return f"in progress in batch {group.batch}."


def _describe_waiting(batch: str, outside: OutOfHours) -> str:
    """Say that the batch waits for its hours, and how it runs at once."""
    return f"{batch} is {outside}. To let it run now, and all day: oathbulk resume {quote(batch)} --no-window"
