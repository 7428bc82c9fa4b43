"""`oathbulk status`: shows how the batches stand, and tells a monitor by the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from models.batch import BatchState
from models.reason import PASSING
from worker.cli.batch_display import LINE_EVERY, draw_batch, draw_batches, watch
from worker.cli.completion import complete_batch
from worker.cli.console import can_redraw, console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, STALLED, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal, is_own_home, open_installation_with
from worker.cli.layout import measure_room
from worker.cli.options import AsJson
from worker.installation.installation import Installation
from worker.installation.lookups import read_statuses
from worker.reports.facts import BatchStatus
from worker.reports.sentences import explain_fleet

# Seconds between two looks of `--watch`.
LOOK_EVERY = 1.0


def status(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", autocompletion=complete_batch, help="The batch's name. Default: all."),
    ] = None,
    watches: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Keep looking, until all is finished, or Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    cures: Annotated[
        bool,
        typer.Option("--cures", help="Write out what to do about dead letters and refused rows, by reason."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="End with 5 where due work stands still or PingOne does not answer, with 4 where a batch waits for a"
            " person, else with 0.",
        ),
    ] = False,
) -> None:
    """Show counts, pace, time left and reasons; and what will happen if nobody does anything."""
    if cures and (batch is None or watches):
        raise typer.BadParameter("name a batch, and leave out --watch: they are read once", param_hint="--cures")
    installation = open_installation_with(batch)
    if as_json:
        statuses = [status.to_json() for status in read_statuses(installation, batch)]
        print_json(statuses[0] if batch else {"batches": statuses})
    elif watches:
        watch(
            console,
            lambda: read_statuses(installation, batch),
            lambda statuses: _draw(installation, batch, statuses),
            lambda status: not status.left,
            look_every=LOOK_EVERY if can_redraw(console) else LINE_EVERY,
        )
    else:
        console.print(_draw(installation, batch, read_statuses(installation, batch), with_cures=cures))
    if check:
        raise typer.Exit(
            max((choose_check_code(status) for status in read_statuses(installation, batch)), default=ALL_ACTIVE)
        )


def choose_check_code(status: BatchStatus) -> int:
    """Choose the exit code of `--check` for one batch."""
    if status.stall or status.outage:
        return STALLED
    waits_for_a_person = status.state == BatchState.PAUSED and status.reason not in PASSING
    return WAITING_FOR_A_PERSON if waits_for_a_person else ALL_ACTIVE


def _draw(
    installation: Installation, batch: str | None, read: Sequence[BatchStatus], *, with_cures: bool = False
) -> RenderableType:
    """Draw this batch, or all, as they were read; and why no worker comes, and which workers take no work."""
    rehearsal = find_rehearsal(installation)
    statuses = [replace(status, rehearsal=rehearsal) for status in read]
    notes = explain_fleet(statuses)
    room = measure_room(console)
    if batch:
        return draw_batch(statuses[0], room, notes=notes, with_cures=with_cures)
    return Group(draw_batches(statuses, room), *map(Text, notes), *_name_home(installation))


def _name_home(installation: Installation) -> list[RenderableType]:
    """Say which home this is, unless the database is elsewhere, or it is a rehearsal's, which was named on stderr."""
    settings = installation.settings
    is_named = settings.is_embedded_database and is_own_home(installation)
    return [Text(f"Home: {settings.home}", style="dim")] if is_named else []
