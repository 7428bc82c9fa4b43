"""`oathbulk show`: prints the whole history of one token, and what happens next."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from worker.cli.console import console, print_json
from worker.cli.history_display import draw_history
from worker.cli.next_step import NextStep, describe_next
from worker.cli.options import AsJson
from worker.installation.installation import Installation
from worker.reports.history import read_histories
from worker.reports.token_history import TokenHistory


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
    installation = Installation()

    def foresee(history: TokenHistory) -> NextStep:
        settings = installation.settings
        return describe_next(history, lease=settings.lease, replay_cron=settings.replay_cron)

    histories = read_histories(installation.database, token, installation.license_of)
    if as_json:
        print_json({"tokens": [each.to_json() | {"next": foresee(each).to_json()} for each in histories]})
        return
    for place, history in enumerate(histories):
        if place:
            console.print(Text(""))
        console.print(draw_history(history, foresee(history)))
