"""Lays texts and columns out on a terminal. In a pipe or a file every line stays whole, so that nothing is cut and
other programs can search it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from worker.cli.command_list import COMMANDS
from worker.observability.escaping import escape, escape_line

# A cell of a table: its text, alone or with its style.
Cell: TypeAlias = "str | tuple[str, str]"
# What stands between two columns.
GAP = "  "
# Columns that are left for a text behind its label, however narrow the terminal is.
_NARROWEST = 20
# How a command begins: with its program. Settings may stand before that.
_PROGRAM = rf"(?:[A-Z_]+=(?:'[^']*'|\S+) )*(?:\S*/)?(?:oathbulk (?:{'|'.join(COMMANDS)})|celery -A)\b"
# What no line is broken in, with the blanks behind it: what stands between backticks; a command, up to a mark behind a
# word that is not within quotation marks; or a word.
_PART = re.compile(rf"(?:^\s*)?(?:`[^`]*`\S*|{_PROGRAM}(?:'[^']*'|.)*?(?:[,;:.)](?=\s|$)|$)|\S+)\s*|\s+")


@dataclass(frozen=True, slots=True)
class Room:
    """How many columns and lines a drawing may take. `is_ascii`: the terminal has no other characters."""

    width: int
    height: int
    is_ascii: bool = False


# Where it is no terminal.
PIPE = Room(1_000_000, 1_000_000)


def measure_room(drawn_on: Console) -> Room:
    """Measure the terminal, but for its last line, which the prompt needs."""
    width, height = drawn_on.size
    return Room(width, max(height - 1, 1), drawn_on.options.ascii_only) if drawn_on.is_terminal else PIPE


def wrap(text: Text, width: int) -> list[Text]:
    """Break a text into lines of at most so many columns: between words, but never within a command, which is there to
    be copied and pasted. A command that is longer stays one line, which the terminal then folds as it shows it, and so
    does a single word."""
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        breaks, used, at = [], 0, 0
        for part in _PART.findall(paragraph.plain):
            if used and used + cell_len(part.rstrip()) > width:
                breaks.append(at)
                used = 0
            used += cell_len(part)
            at += len(part)
        lines += paragraph.divide(breaks)
    for line in lines:
        line.rstrip()
    return lines


def break_lines(text: Text | str, room: Room, indent: int = 0) -> list[Text]:
    """Break a text into lines that are no longer than the room is wide, each behind so many blanks."""
    lines = wrap(_show_controls(text), max(room.width - indent, _NARROWEST))
    return [Text(" " * indent) + line for line in lines] if indent else lines


def count_lines(lines: Sequence[Text], room: Room) -> int:
    """Count the lines that these take on a terminal, with those in which a long command goes on."""
    return sum(max(-(-line.cell_len // room.width), 1) for line in lines)


def cut_line(text: Text | str, width: int) -> Text:
    """Cut a text, with an ellipsis, where so many columns end."""
    safe = _show_controls(text)
    safe.truncate(max(width, 1), overflow="ellipsis")
    return safe


def label_text(label: str, text: str, room: Room, *, indent: int = 0, width: int = 10, style: str = "") -> list[Text]:
    """Lay out a text behind its label; it goes on below its own beginning. `width` is that of the label with the gap
    behind it."""
    head = " " * indent + escape_line(label)
    head += " " * max(indent + width - cell_len(head), 1)
    first, *others = break_lines(Text(escape_line(text), style=style), room, cell_len(head)) or [Text()]
    return [Text(head, style="dim") + first[cell_len(head) :], *others]


def align(rows: Sequence[Sequence[Cell]], right: Collection[int] = ()) -> list[Text]:
    """Put the cells of each row beside each other, each as wide as its column; those in the columns `right` at the
    right."""
    styled = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(cell_len(text) for text, _ in column) for column in zip(*styled, strict=True)]
    lines = []
    for row in styled:
        line = Text(no_wrap=True, overflow="ignore")
        for place, ((text, style), width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - cell_len(text))
            line.append(blanks + text if place in right else text + blanks, style).append(GAP)
        line.rstrip()
        lines.append(line)
    return lines


def _show_controls(text: Text | str) -> Text:
    """Show control characters now: to show one takes several columns, which have to be counted."""
    return Text(escape(text)) if isinstance(text, str) else Text(escape(text.plain), style=text.style)
