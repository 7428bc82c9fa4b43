"""`oathbulk audit`: lists who did what, and checks that no line has been changed since."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Annotated, Any

import typer
from rich.text import Text
from sqlalchemy import Connection, Row, select

from models.audit import AuditLine
from models.batch import Batch
from worker import audit
from worker.audit import CheckResult, MissingHead, NotedHead
from worker.batches.finding import find_batch
from worker.cli.console import GAP, Room, align, break_lines, console, error_console, measure_room, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_FAILED
from worker.cli.options import AsJson, complete_batch
from worker.installation.installation import Installation
from worker.observability.wording import agree, count_things, escape_line


def audit_command(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", autocompletion=complete_batch, help="Only this batch. Default: all."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD",
            help="Check that the audit still contains hashes that you saved earlier. Specify a line's hash, ID:HASH, "
            "or a file of them. Default: the file that OATHBULK_AUDIT_HEAD names.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what, and check that no line has been changed since."""
    installation = Installation()
    # Read the heads before the lines, so that no head belongs to a line that is written too late to be read.
    heads, unread = _read_heads(installation, verify)
    with installation.database.reading_snapshot() as connection:
        checked = audit.check(connection)
        missing = audit.find_missing(connection, heads)
        if batch is not None:
            _ensure_known(connection, batch)
        lines = list(_read_until_unreadable(audit.read(connection, batch)))
    if as_json:
        print_json({"lines": [_line_to_json(line) for line in lines]} | _to_json_findings(checked, len(heads), missing))
    else:
        for text in _draw_table(lines, measure_room(console)):
            console.print(text)
        if heads and not missing:
            console.print(
                f"Looked for {count_things(len(heads), 'saved head')}: {agree(len(heads), 'it is', 'all are')} in the"
                " audit."
            )
        if lines and batch is None:
            console.print(f"The last line's hash: {lines[-1].hash}")
    if unread and checked.lines:
        error_console.print(f"Not compared with the saved heads: {unread}.", soft_wrap=True)
    _print_faults(checked, len(heads), missing)
    raise typer.Exit(SOME_FAILED if checked.broken or missing else ALL_ACTIVE)


def _read_heads(installation: Installation, given: str | None) -> tuple[list[NotedHead], str]:
    """Read the heads that a person gave, or else the noted ones. Also returns why the noted ones cannot be read; empty
    if they can. Raises UnusableHead if the person's heads are invalid."""
    if given is not None:
        return audit.read_heads(given), ""
    try:
        return audit.read_noted_heads(audit.find_heads_file(installation.settings)), ""
    except audit.UnusableHead as unusable:
        return [], str(unusable)


def _ensure_known(connection: Connection, batch: str) -> None:
    """Raise UnknownBatch unless the audit or the database knows this batch. A deleted batch may have left lines."""
    if connection.scalar(select(AuditLine.id).where(AuditLine.batch == batch).limit(1)) is None:
        find_batch(connection, batch, Batch.id, may_be_purged=True)


def _read_until_unreadable(lines: Iterator[Row[*tuple[Any, ...]]]) -> Iterator[Row[*tuple[Any, ...]]]:
    """Yield the lines up to the first that cannot be read, since somebody changed it."""
    with suppress(ValueError, TypeError):
        yield from lines


def _line_to_json(line: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {**line._mapping, "at": line.at.isoformat()}


def _to_json_findings(checked: CheckResult, heads: int, missing: Sequence[MissingHead]) -> dict[str, Any]:
    broken = checked.broken
    return {
        "broken": {"line": broken.line, "why": broken.why} if broken else None,
        "heads": heads,
        "missing_heads": [{"line": each.head.line, "hash": each.head.hash, "why": each.why} for each in missing],
    }


def _draw_table(lines: Sequence[Row[*tuple[Any, ...]]], room: Room) -> Iterator[Text]:
    """Lay the lines out in columns; nothing is cut off, however long it is. On a terminal without room for the last
    column, the facts are printed below their line."""
    rows = [("line", "when (UTC)", "who", "what", "batch", "ticket", "facts"), *map(_format_cells, lines)]
    drawn = align(rows)
    if max(line.cell_len for line in drawn) <= room.width:
        yield from drawn
        return
    below = max(len(number) for number, *_ in rows) + len(GAP)
    for line, (*_, facts) in zip(align([row[:-1] for row in rows]), rows, strict=True):
        yield line
        yield from break_lines(facts, room, below) if facts else ()


def _format_cells(line: Row[*tuple[Any, ...]]) -> tuple[str, ...]:
    when = f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    values = (line.id, when, line.actor, line.action, line.batch or "", line.ticket or "", _format_facts(line.facts))
    return tuple(escape_line(str(cell)) for cell in values)


def _format_facts(facts: object) -> str:
    """Write the facts of a line as `name=value, …`, without those that are empty."""
    if not isinstance(facts, dict):
        # We write only dictionaries, so somebody changed this line.
        return str(facts)
    return ", ".join(f"{name}={_format_fact(value)}" for name, value in facts.items() if value not in (None, []))


def _format_fact(value: object) -> str:
    """Write the value of a fact: a list without Python's brackets, a dictionary as `name: value`."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return ", ".join(f"{name}: {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _print_faults(checked: CheckResult, heads: int, missing: Sequence[MissingHead]) -> None:
    """Print on stderr where the audit is broken, and which noted heads are no longer in it."""
    if checked.broken:
        error_console.print(f"The audit is broken at line {checked.broken.line}: {checked.broken.why}.")
    if missing:
        error_console.print(
            f"{len(missing)} of {count_things(heads, 'saved head')} {agree(len(missing), 'is', 'are')} not in the audit"
            " anymore:"
        )
    for each in missing:
        error_console.print(f"{each.head.hash}: {each.why}.")
