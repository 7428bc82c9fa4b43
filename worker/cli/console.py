"""Where the commands print, and how: what was asked for on stdout, everything else on stderr. On a terminal, texts and
columns are laid out; in a pipe or a file every line stays whole, so that nothing is cut and other programs can search
it."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from worker.observability.wording import escape, escape_line

# A cell of a table: its text, alone or with its style.
Cell: TypeAlias = "str | tuple[str, str]"
# The gap between two columns.
GAP = "  "
# Columns left for a text after its label, however narrow the terminal is.
_NARROWEST = 20
# A command at the end of a line, with any variables before its program.
_COMMAND = re.compile(r"(?:^|(?<=: ))(?:[A-Z_]+=.*?)?(?:\S*oathbulk|celery) .*")


@dataclass(frozen=True, slots=True)
class Room:
    """How many columns and lines a drawing may take. `is_ascii`: the terminal has only ASCII characters."""

    width: int
    height: int
    is_ascii: bool = False


# The room without a terminal.
PIPE = Room(1_000_000, 1_000_000)


def measure_room(drawn_on: Console) -> Room:
    """Measure the terminal, without its last line, which the prompt needs."""
    width, height = drawn_on.size
    return Room(width, max(height - 1, 1), drawn_on.options.ascii_only) if drawn_on.is_terminal else PIPE


def break_lines(text: Text | str, room: Room, indent: int = 0) -> list[Text]:
    """Break a text between words into lines no longer than the room's width, each after `indent` blanks. A command at
    the end of a line stays whole, since it is there to be copied: the terminal folds it."""
    width, lines = max(room.width - indent, _NARROWEST), list[Text]()
    for line in _show_controls(text).split("\n", allow_blank=True):
        command = _COMMAND.search(line.plain) if line.cell_len > width else None
        prose = line[: command.start()] if command else line
        lines += prose.wrap(console, width) if prose or not command else []
        lines += [line[command.start() :]] if command else []
    for line in lines:
        line.rstrip()
    return [Text(" " * indent) + line for line in lines] if indent else lines


def count_lines(lines: Sequence[Text], room: Room) -> int:
    """Count the lines that these take on a terminal, including those in which a long command continues."""
    return sum(max(-(-line.cell_len // room.width), 1) for line in lines)


def cut_line(text: Text | str, width: int) -> Text:
    """Cut a text, with an ellipsis, at this many columns."""
    safe = _show_controls(text)
    safe.truncate(max(width, 1), overflow="ellipsis")
    return safe


def label_text(label: str, text: str, room: Room, *, indent: int = 0, width: int = 10, style: str = "") -> list[Text]:
    """Lay out a text after its label; further lines are aligned with the text's beginning. `width` is that of the
    label, including the gap."""
    head = " " * indent + escape_line(label)
    head += " " * max(indent + width - cell_len(head), 1)
    first, *others = break_lines(Text(escape_line(text), style=style), room, cell_len(head)) or [Text()]
    return [Text(head, style="dim") + first[cell_len(head) :], *others]


def align(rows: Sequence[Sequence[Cell]], right: Collection[int] = (), width: int = PIPE.width) -> list[Text]:
    """Put the cells of each row side by side, each as wide as its column; those in the columns `right` are
    right-aligned. What exceeds the `width` of a line is cut off."""
    styled = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(cell_len(text) for text, _ in column) for column in zip(*styled, strict=True)]
    lines = []
    for row in styled:
        line = Text(no_wrap=True, overflow="ignore")
        for place, ((text, style), column) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (column - cell_len(text))
            line.append(blanks + text if place in right else text + blanks, style).append(GAP)
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _show_controls(text: Text | str) -> Text:
    """Make control characters visible now: each then takes several columns, which have to be counted."""
    shown = escape(str(text))
    if isinstance(text, Text):
        return text if shown == text.plain else Text(shown, style=text.style)
    return Text(shown)


class _SafeConsole(Console):
    """A console that shows control characters instead of sending them to the terminal, and breaks texts with
    `break_lines`. rich lets escape sequences through: the name of a vendor's file could paint over what a person
    reads."""

    def print(self, *objects: Any, **named: Any) -> None:
        """Print a text in lines no longer than the terminal is wide, unless `soft_wrap` leaves the wrapping to the
        terminal. Print anything else as it is, since it is already laid out."""
        if not named.get("soft_wrap"):
            room = measure_room(self)
            objects = tuple(
                Text("\n").join(break_lines(each, room)) if isinstance(each, str | Text) else each for each in objects
            )
        super().print(*objects, **named | {"soft_wrap": True})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # rich itself makes control segments, to move the cursor of a live display.
            yield segment if segment.control else Segment(escape(segment.text), segment.style)


def _open_console(*, stderr: bool) -> Console:
    """Make a console that prints text as it is, without rich's markup: a file may be named `lot [7].csv`, and a message
    may quote a section of a TOML file."""
    return _SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


console = _open_console(stderr=False)
error_console = _open_console(stderr=True)


def can_redraw(drawn_on: Console) -> bool:
    """Whether this console can redraw a line: it is a terminal that supports cursor movement."""
    return drawn_on.is_terminal and not drawn_on.is_dumb_terminal


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; types that JSON lacks, such as times, as text."""
    console.print(json.dumps(value, indent=2, default=str), soft_wrap=True)


def print_failure(message: str) -> None:
    """Print on stderr, in one line, why this command ends."""
    error_console.print(Text.assemble(("oathbulk:", "bold red"), " ", escape_line(message)))


def name_program() -> str:
    """Say how to type `oathbulk` here: with its path, if it was called that way and cannot be found otherwise."""
    called = sys.argv[0]
    is_known = shutil.which("oathbulk") is not None or not called.endswith("/oathbulk")
    return "oathbulk" if is_known else shlex.quote(called)
