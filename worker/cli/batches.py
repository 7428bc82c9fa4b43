"""`oathbulk pause`, `resume`, `cancel` and `replay`: the commands that change what a batch does."""

from collections.abc import Sequence
from shlex import quote
from typing import Annotated

import typer

from models.batch import BatchState
from models.reason import Reason
from worker.batches.commands import HoursChange
from worker.cli.console import console
from worker.cli.options import BatchName, Hours, Ticket, Where, WindowZone, parse_hours
from worker.cli.progress_line import showing_progress
from worker.installation.installation import Installation, read_fleet
from worker.observability.wording import agree, count_things
from worker.reports.command_results import describe_cancelled, describe_closed, describe_replayed, describe_resumed
from worker.reports.facts import read_statuses
from worker.reports.outlook import describe_outlook, describe_waves


def pause(batch: BatchName, where: Where = None, ticket: Ticket = None) -> None:
    """Pause a batch, so that no new call starts; with --where, only keep matching rows back."""
    count = Installation().batches(ticket).pause(batch, where or ())
    console.print(describe_kept_back(batch, where, count) if where else describe_paused(batch))


def resume(
    batch: BatchName,
    window: Hours = None,
    zone: WindowZone = None,
    no_window: Annotated[bool, typer.Option("--no-window", help="Run all day from now on.")] = False,
    now: Annotated[
        bool,
        typer.Option("--now", help="Also end the license's hold, which is keeping all of its workers waiting."),
    ] = False,
    where: Where = None,
    ticket: Ticket = None,
) -> None:
    """Continue a paused batch; with --window or --no-window, also change the hours that it runs in."""
    if where:
        if window or zone or no_window or now:
            raise typer.BadParameter(
                "only starts some records: it cannot be combined with --now or with hours", param_hint="--where"
            )
        installation = Installation()
        console.print(describe_let_go(batch, where, installation.batches(ticket).let_begin(batch, where)))
        (status,) = read_statuses(installation.database, batch)
        if status.state == BatchState.PAUSED:
            console.print(describe_outlook(status), soft_wrap=True)
        return
    hours = parse_hours(window, zone)
    if hours is not None and no_window:
        raise typer.BadParameter("is the opposite of --window: use only one of them", param_hint="--no-window")
    change = HoursChange(hours) if hours is not None or no_window else None
    installation = Installation()
    lift_in = installation.license_of if now else None
    outside = installation.batches(ticket).resume(batch, change, lift_in=lift_in)
    console.print(describe_resumed(batch, outside, read_fleet(installation, batch), lifts_hold=now))
    print_waves(installation, batch)


def cancel(batch: BatchName, where: Where = None, ticket: Ticket = None) -> None:
    """Close the rows still to do; with --where, only rows that failed or have not begun."""
    with showing_progress("Nothing was changed.") as progress:
        cancelled = Installation().batches(ticket).cancel(batch, where or (), progress)
    console.print(describe_closed(batch, where, cancelled) if where else describe_cancelled(batch, cancelled))


def replay(
    batch: BatchName,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(
            help="Only dead letters with this reason, and nothing cancelled; repeatable. Default: all dead letters, "
            "and everything cancelled with the batch."
        ),
    ] = None,
    where: Where = None,
    ticket: Ticket = None,
) -> None:
    """Send dead letters and cancelled records again."""
    installation = Installation()
    with showing_progress("Nothing was changed.") as progress:
        replayed = installation.batches(ticket).replay(batch, reason, where or (), progress)
    console.print(describe_replayed(batch, replayed, reason, read_fleet(installation, batch)))
    print_waves(installation, batch)


def print_waves(installation: Installation, batch: str) -> None:
    """Say which records of a batch do not start yet, although a command has just continued it; nothing if all do."""
    (status,) = read_statuses(installation.database, batch)
    if waves := describe_waves(status):
        console.print(waves, soft_wrap=True)


def describe_paused(batch: str) -> str:
    """Say that a batch is paused, and how to continue it."""
    return f"{batch} is paused. Continue with: oathbulk resume {quote(batch)}"


def describe_kept_back(batch: str, where: Sequence[str], records: int) -> str:
    """Say how many records were kept back before they began, and how to start them."""
    failed = "If you replay matching rows that failed, they are kept back too."
    if not records:
        matching = f"No row of {batch} with {' and '.join(where)}"
        return (
            f"{matching} can be kept back: every matching row has begun, is closed, or is kept back already. {failed}"
        )
    words = " ".join(f"--where {quote(each)}" for each in where)
    it, they = agree(records, "it", "them"), agree(records, "it", "they")
    mend = f"Or mend {it} with the date on which {they} {agree(records, 'starts', 'start')}."
    return (
        f"{count_things(records, 'record')} of {batch} {agree(records, 'is', 'are')} kept back until you resume {it}, "
        f"whatever date the file has. {failed} To start {it} now: oathbulk resume {quote(batch)} {words}\n{mend}"
    )


def describe_let_go(batch: str, where: Sequence[str], records: int) -> str:
    """Say how many records no longer wait for a date."""
    if not records:
        return f"No row of {batch} with {' and '.join(where)} was waiting for a date."
    it = agree(records, "it", "them")
    return f"{count_things(records, 'record')} of {batch} can start now, whatever date the file gave {it}."
