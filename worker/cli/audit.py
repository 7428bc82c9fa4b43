"""`oathbulk audit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Row

from worker import audit
from worker.cli.console import console, error_console, print_json
from worker.cli.failures import ALL_ACTIVE, SOME_LEFT
from worker.cli.installation import Installation
from worker.cli.load import AsJson


def audit_command(
    batch: Annotated[str | None, typer.Argument(metavar="[BATCH]", help="Only this batch. Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what persons did, and check that no line was changed since."""
    with Installation().database.reading() as connection:
        broken = audit.check(connection)
        lines = list(_readable(audit.read(connection, batch)))
    if as_json:
        facts = {"line": broken.line, "why": broken.why} if broken else None
        print_json({"lines": [_to_json(line) for line in lines], "broken": facts})
    else:
        console.print(_draw(lines))
        if lines:
            console.print(f"The last line's hash: {lines[-1].hash}", markup=False)
    if broken:
        error_console.print(f"The audit is broken at line {broken.line}: {broken.why}.", markup=False)
        raise typer.Exit(SOME_LEFT)
    raise typer.Exit(ALL_ACTIVE)


def _readable(lines: Iterator[Row[*tuple[Any, ...]]]) -> Iterator[Row[*tuple[Any, ...]]]:
    """Up to one that somebody made unreadable."""
    with suppress(ValueError, TypeError):
        yield from lines


def _to_json(line: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    names = ("id", "at", "actor", "action", "batch", "ticket", "facts", "hash")
    return {name: getattr(line, name) for name in names} | {"at": line.at.isoformat()}


def _draw(lines: list[Row[*tuple[Any, ...]]]) -> Table:
    table = Table("line", "when", "who", "what", "batch", "ticket", "facts", box=None, padding=(0, 2, 0, 0))
    for line in lines:
        facts = ", ".join(f"{name}={value}" for name, value in line.facts.items() if value not in (None, []))
        when = line.at.isoformat(sep=" ", timespec="seconds")
        table.add_row(str(line.id), when, line.actor, line.action, line.batch, line.ticket or "", facts)
    return table
