"""`oathbulk audit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from worker import audit
from worker.cli.console import console, error_console, print_json
from worker.cli.failures import ALL_ACTIVE, SOME_LEFT
from worker.cli.installation import Installation
from worker.cli.load import AsJson
from worker.escaping import escape_line


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
        for text in _draw(lines):
            console.print(text)
        if lines and batch is None:
            console.print(f"The last line's hash: {lines[-1].hash}")
    if broken:
        error_console.print(f"The audit is broken at line {broken.line}: {broken.why}.")
        raise typer.Exit(SOME_LEFT)
    raise typer.Exit(ALL_ACTIVE)


def _readable(lines: Iterator[Row[*tuple[Any, ...]]]) -> Iterator[Row[*tuple[Any, ...]]]:
    """Up to one that somebody made unreadable."""
    with suppress(ValueError, TypeError):
        yield from lines


def _to_json(line: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    names = ("id", "at", "actor", "action", "batch", "ticket", "facts", "hash")
    return {name: getattr(line, name) for name in names} | {"at": line.at.isoformat()}


def _draw(lines: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[str]:
    """In columns, and nothing cut off, however long."""
    rows = [("line", "when", "who", "what", "batch", "ticket", "facts"), *map(_cells, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(line: Row[*tuple[Any, ...]]) -> tuple[str, ...]:
    when = line.at.isoformat(sep=" ", timespec="seconds")
    told = (line.id, when, line.actor, line.action, line.batch, line.ticket or "", _tell(line.facts))
    return tuple(escape_line(str(cell)) for cell in told)


def _tell(facts: object) -> str:
    if not isinstance(facts, dict):
        # Nobody but a forger writes such.
        return str(facts)
    return ", ".join(f"{name}={value}" for name, value in facts.items() if value not in (None, []))
