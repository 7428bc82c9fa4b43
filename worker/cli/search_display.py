"""How records that were found are displayed: as a table if it fits, else each in two lines with labels."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from models.record_states import Status
from worker.cli.history_display import STATUS_STYLES
from worker.cli.labelled_lines import LabelledLine
from worker.observability.escaping import escape_line
from worker.reports.search import Findings, Found, Sought
from worker.reports.sentences import describe_nothing_found, format_moment

_COLUMNS = ("token", "batch", "row", "user", "status", "reason", "when (UTC)")
# Columns of a terminal between two columns of the table.
_GAP = "  "


def draw_findings(findings: Findings, sought: Sought) -> RenderableType:
    """Draw the records that were found, and say how many more there are; or that there is none like what was sought."""
    if not findings.found and not findings.refused:
        return Text(escape_line(describe_nothing_found(sought)))
    parts: list[RenderableType] = [FoundRecords(findings.found)] if findings.found else []
    parts += [LabelledLine(line.serial_number or "no serial", str(line)) for line in findings.refused]
    if findings.more:
        parts.append(Text(f"… and {findings.more:,} more: list them with --limit, or say more of what you look for."))
    if findings.is_by_serial_number:
        parts.append(Text("Only serial numbers were searched, since these begin so.", style="dim"))
    return Group(*parts)


class FoundRecords:
    """A table with a line for each record; on a terminal that is too narrow for it, each record in two lines."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._found = found
        self._rows = [tuple(map(escape_line, _describe(each))) for each in found]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [max(map(cell_len, column)) for column in zip(_COLUMNS, *self._rows, strict=True)]
        if options.no_wrap or sum(widths) + len(_GAP) * (len(widths) - 1) <= options.max_width:
            yield _join(_COLUMNS, widths, "bold", "bold")
            for record, row in zip(self._found, self._rows, strict=True):
                yield _join(row, widths, STATUS_STYLES.get(record.status, ""))
            return
        width = max(len(each.serial_number) for each in self._found) + len(_GAP)
        for record, (token, batch, row_number, user, status, reason, when) in zip(self._found, self._rows, strict=True):
            style = STATUS_STYLES.get(record.status, "")
            said = ", ".join(filter(None, (status, reason, when and f"{when} UTC")))
            yield LabelledLine(token, said, width=width, style=style)
            yield LabelledLine("", f"user {user}, batch {batch}, row {row_number}", width=width)


def _describe(found: Found) -> tuple[str, ...]:
    """The cells of a record's line."""
    when = ""
    if found.finalized_at:
        when = format_moment(found.finalized_at)
    elif found.status == Status.PENDING:
        when = f"due {format_moment(found.scheduled_at)}"
    return found.serial_number, found.batch, str(found.row), found.user, found.status, found.reason or "", when


def _join(cells: Sequence[str], widths: Sequence[int], status_style: str, style: str = "") -> Text:
    """Put cells beside each other, each as wide as its column."""
    line = Text(no_wrap=True, overflow="ignore")
    for name, cell, width in zip(_COLUMNS, cells, widths, strict=True):
        padding = " " * (width - cell_len(cell))
        padded = padding + cell if name == "row" else cell + padding
        line.append(padded, status_style if name == "status" else style).append(_GAP)
    line.rstrip()
    return line
