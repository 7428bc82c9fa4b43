"""`oathbulk show`: prints the whole history of one token, and what happens next."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from worker.cli.console import console, print_json
from worker.cli.history_display import draw_history
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.options import AsJson
from worker.reports.history import read_histories
from worker.reports.sentences.next_step import describe_next


def show(
    token: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN",
            help="A serial number, the id of a device in PingOne, or a record's number, such as '#123'.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Tell all that is known of one token: its batches, every attempt, and what happens next. No OTP is shown."""
    installation = open_installation_with(None)
    settings = installation.settings
    histories = read_histories(installation.database, token, installation.license_of, lambda: installation.keyring)
    steps = [describe_next(each, lease=settings.lease, replay_cron=settings.replay_cron) for each in histories]
    if rehearsal := find_rehearsal(installation):
        steps = [replace(step, why=rehearsal.describe_end(), command=None) if step.command else step for step in steps]
    told = list(zip(histories, steps, strict=True))
    if as_json:
        print_json({"tokens": [history.to_json() | {"next": step.to_json()} for history, step in told]})
        return
    for place, (history, step) in enumerate(told):
        if place:
            console.print(Text(""))
        console.print(draw_history(history, step))
