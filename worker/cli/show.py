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
from worker.installation.histories import read_histories


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
    told = read_histories(installation, token)
    if rehearsal := find_rehearsal(installation):
        ended = rehearsal.describe_end()
        told = [(each, replace(step, why=ended, command=None) if step.command else step) for each, step in told]
    if as_json:
        print_json({"tokens": [history.to_json() | {"next": step.to_json()} for history, step in told]})
        return
    for place, (history, step) in enumerate(told):
        if place:
            console.print(Text(""))
        console.print(draw_history(history, step))
