"""`oathbulk status`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from worker.cli.console import console, print_json
from worker.cli.installation import Installation
from worker.cli.picture import WAITING, draw_batch, draw_batches, outlook
from worker.reports.batch_status import BatchStatus
from worker.reports.status import read_statuses

# Seconds between two looks.
INTERVAL = 1.0


def status(
    batch: Annotated[str | None, typer.Argument(metavar="[BATCH]", help="The batch's name. Default: all.")] = None,
    watch: Annotated[bool, typer.Option(help="Keep looking, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show counts, pace, time left and reasons; and what will happen if nobody does anything."""
    installation = Installation()
    if as_json:
        statuses = [status.to_json() for status in _statuses(installation, batch)]
        print_json(statuses[0] if batch else {"batches": statuses})
    elif watch:
        with Live(_draw(installation, batch), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(INTERVAL)
                live.update(_draw(installation, batch), refresh=True)
    else:
        console.print(_draw(installation, batch))


def _statuses(installation: Installation, batch: str | None) -> list[BatchStatus]:
    return read_statuses(installation.database, batch, installation.license_of)


def _draw(installation: Installation, batch: str | None) -> RenderableType:
    statuses = _statuses(installation, batch)
    picture = draw_batch(statuses[0]) if batch else draw_batches(statuses)
    if any(outlook(status) == WAITING for status in statuses):
        return Group(picture, "`oathbulk run FILE` brings a worker; or start `celery -A worker worker` and `beat`.")
    return picture
