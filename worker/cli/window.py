"""The options that give a batch its daily window."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.rules.hours import DailyWindow, UnfitWindow

Hours = Annotated[
    str | None,
    typer.Option(
        "--window", metavar="HH:MM-HH:MM", help="Run only in these hours of each day; pauses and goes on by itself."
    ),
]
Zone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="The time zone of --window, such as Europe/Berlin or UTC.")
]


def given_window(hours: str | None, zone: str | None) -> DailyWindow | None:
    """Both options or none: whose clock is meant is not guessed, for where a machine stands says little of whose hours
    are meant. Raises typer.BadParameter."""
    if hours is None and zone is None:
        return None
    if hours is None:
        raise typer.BadParameter("is the time zone of --window: give both", param_hint="--zone")
    if zone is None:
        raise typer.BadParameter(
            "needs --zone: whose clocks are meant, such as --zone Europe/Berlin, or --zone UTC", param_hint="--window"
        )
    try:
        return DailyWindow.parse(hours, zone)
    except UnfitWindow as error:
        raise typer.BadParameter(str(error), param_hint="--window and --zone") from error
