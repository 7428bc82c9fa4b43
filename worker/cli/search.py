"""`oathbulk search`: finds records by what is known of a token or its user."""

from __future__ import annotations

from typing import Annotated

import typer

from models.reason import Reason
from worker.cli.completion import complete_batch
from worker.cli.console import console, print_json
from worker.cli.homes import open_installation_with
from worker.cli.options import AsJson, RowStatus
from worker.cli.search_display import draw_findings
from worker.reports.search import Sought
from worker.reports.search import search as find

# Records that are listed unless --limit says otherwise: more than a screen is seldom read.
LISTED = 50


def search(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="The beginning of a serial number, an id, a name, an e-mail address, a lot, or a column of the file.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", autocompletion=complete_batch, help="Only records of this batch.")
    ] = None,
    status: Annotated[
        RowStatus | None, typer.Option(help="Only records of this status, or the rows that were refused.")
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only records of this reason.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only of users whose id, name or e-mail address begins so.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="List so many at most.")] = LISTED,
    as_json: AsJson = False,
) -> None:
    """Find tokens by the beginning of a serial number, a name, or anything else that is known of them."""
    sought = Sought(text=(text and text.strip()) or None, batch=batch, status=status, reason=reason, user=user)
    findings = find(open_installation_with(batch).database, sought, limit)
    if as_json:
        print_json(findings.to_json())
    else:
        console.print(draw_findings(findings, sought))
