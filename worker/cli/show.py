"""`oathbulk show`: prints the whole history of one token and what happens next, or lists the tokens that begin so."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from models.reason import Reason
from worker.cli.completion import complete_batch
from worker.cli.console import console, print_json
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.layout import measure_room
from worker.cli.options import AsJson, RowStatus
from worker.cli.token_display import draw_findings, draw_history
from worker.installation.histories import Told, look_up
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things
from worker.reports.search import Findings, Sought, search

# Records that are listed unless --limit says otherwise: more than a screen is seldom read.
LISTED = 50


def show(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="A serial number, the id of a device in PingOne, or a record's number, such as '#123'; or the "
            "beginning of one, of a name, an e-mail address, a lot or a column of the file.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", autocompletion=complete_batch, help="List those of this batch.")
    ] = None,
    status: Annotated[
        RowStatus | None, typer.Option(help="List those of this status, or the rows that were refused.")
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="List those of this reason.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="TEXT", help="List those of users whose id, name or e-mail address begins so.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="List so many at most.")] = LISTED,
    as_json: AsJson = False,
) -> None:
    """Tell all that is known of one token, and what happens next; or list the tokens that begin so. No OTP is shown."""
    text = (text and text.strip()) or None
    sought = Sought(text=text, batch=batch, status=status, reason=reason, user=user)
    if sought == Sought():
        raise typer.BadParameter("name a token, or list some with --batch, --status, --reason or --user")
    installation = open_installation_with(batch)
    # What is asked of a batch, a status, a reason or a user is a list, however long, so that scripts can rely on it.
    is_token_asked = text is not None and sought == Sought(text=text)
    found = look_up(installation, text or "", limit) if is_token_asked else search(installation.database, sought, limit)
    if isinstance(found, Findings):
        print_json(found.to_json()) if as_json else console.print(draw_findings(found, sought, measure_room(console)))
    else:
        _print_tokens(installation, found, as_json=as_json)


def _print_tokens(installation: Installation, told: Told, *, as_json: bool) -> None:
    """Print the whole history of a token, in each environment that has it."""
    tokens = told.tokens
    if rehearsal := find_rehearsal(installation):
        ended = rehearsal.describe_end()
        tokens = [(each, replace(step, why=ended, command=None) if step.command else step) for each, step in tokens]
    if as_json:
        histories = [history.to_json() | {"next": step.to_json()} for history, step in tokens]
        print_json({"tokens": histories, "others": told.others})
        return
    for place, (history, step) in enumerate(tokens):
        if place:
            console.print(Text(""))
        console.print(draw_history(history, step, measure_room(console)))
    if told.others:
        begin = f"{count_things(told.others, 'other serial number')} {agree(told.others, 'begins', 'begin')} so"
        console.print(Text(f"{begin}: --batch, --status, --reason or --user lists them.", style="dim"))
