"""How all batches are displayed: a table of their tokens, whichever batch made them active."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from models.record_states import Status
from worker.cli.batch_display import COLOURS
from worker.cli.room import Room, break_lines, cut_line
from worker.observability.escaping import escape
from worker.reports.facts import BatchStatus
from worker.reports.sentences import describe_outlook, put_waiting_first

_HEAD = ("batch", "state", "tokens", "active", "dead letters", "left")
_OUTLOOK = "outlook"
# Columns at the left that hold text; the others hold numbers.
_TEXTS = 2
_GAP = "  "
# How far the outlook stands in on a terminal, in columns.
_INDENT = 4


def draw_batches(statuses: Sequence[BatchStatus], room: Room | None = None) -> RenderableType:
    """Draw a line of tokens for each batch: those of its file, those that are active in whichever batch, its dead
    letters and all that are active in none. Its outlook stands below it on a terminal; where it is none (`room` is
    None), at the end of the same line, so that a script reads a batch a line."""
    if not statuses:
        return Text("No batch was loaded yet. Begin with: oathbulk run FILE, or oathbulk rehearse.")
    rows = [_HEAD, *map(_make_cells, statuses)]
    widths = [max(Text(row[column]).cell_len for row in rows) for column in range(len(_HEAD))]
    if room is not None:
        # A batch's name may be longer than the terminal is wide.
        widths[0] = max(min(widths[0], room.width - sum(widths[1:]) - len(_GAP) * (len(widths) - 1)), len(_HEAD[0]))
    head = _join_cells(_HEAD, widths, room)
    head.stylize("bold")
    lines = [head if room else Text(_GAP).join([head, Text(_OUTLOOK, style="bold")])]
    for status in statuses:
        cells = _join_cells(_make_cells(status), widths, room, state_style=COLOURS[status.state])
        outlook = Text(_describe_future(status))
        if room is None:
            lines.append(Text(_GAP).join([cells, *break_lines(outlook, None)]))
        else:
            lines += [cells, *(Text(" " * _INDENT) + line for line in break_lines(outlook, room.narrow(_INDENT)))]
    return Group(*lines)


def _make_cells(status: BatchStatus) -> tuple[str, ...]:
    numbers = (status.rows, status.tokens_active, status.counts[Status.DEAD_LETTER], status.tokens_left)
    return (escape(status.name), status.state, *map(str, numbers))


def _join_cells(cells: Sequence[str], widths: Sequence[int], room: Room | None, state_style: str = "") -> Text:
    """Join the cells of a row: texts at the left of their columns, numbers at the right."""
    name = cut_line(Text(cells[0]), None if room is None else Room(widths[0], 1))
    name.pad_right(widths[0] - name.cell_len)
    numbers = [Text(cell.rjust(width)) for cell, width in zip(cells[_TEXTS:], widths[_TEXTS:], strict=True)]
    return Text(_GAP).join([name, Text(cells[1].ljust(widths[1]), style=state_style), *numbers])


def _describe_future(status: BatchStatus) -> str:
    """Say how many records are still to do, and what will become of the batch."""
    to_do = f"{status.left} still to do. " if status.left else ""
    return to_do + put_waiting_first(status, describe_outlook(status))
