"""Where the commands print: what was asked for on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from worker.cli.layout import wrap
from worker.observability.escaping import escape, escape_line


class _SafeConsole(Console):
    """A console that shows control characters instead of sending them to the terminal, and keeps commands whole.

    rich lets escape sequences through: the name of a vendor's file could paint over what a person reads. And it breaks
    lines wherever there is a blank: a command that was copied would end there."""

    def print(self, *objects: Any, **named: Any) -> None:
        """Print as rich does, but cut nothing: the terminal folds a command that is longer than it is wide."""
        super().print(*objects, **{"crop": False} | named)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        room = options or self.options
        # In a column of a table, rich cuts.
        if isinstance(renderable, Text) and room.max_width == self.width and not room.no_wrap:
            renderable = _wrap(renderable, room.max_width)
        for segment in super().render(renderable, options):
            # A control segment is made by rich itself, to move the cursor of a live display.
            yield segment if segment.control else Segment(escape(segment.text), segment.style)


def _wrap(text: Text, width: int) -> Text:
    """Break a text into lines that rich leaves as they are; one that is meant to be cut stays."""
    if text.no_wrap or text.overflow:
        return text
    return Text("\n", end=text.end, no_wrap=True, overflow="ignore").join(wrap(text, width))


def _open_console(*, stderr: bool) -> Console:
    """Make a console that prints text as it is, without rich's markup: a file may be named `lot [7].csv`, and a message
    may quote a section of a TOML file."""
    opened = _SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    # On a terminal, long lines are broken between words; a log or a pipe gets them whole.
    opened.soft_wrap = not opened.is_terminal
    return opened


console = _open_console(stderr=False)
error_console = _open_console(stderr=True)


class Folded:
    """A drawing in a live display, of which a line that is longer than the terminal is wide goes on below, as the
    terminal itself shows what is printed: rich would cut off the end of a command."""

    def __init__(self, drawing: RenderableType) -> None:
        self._drawing = drawing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        for line in Segment.split_lines(console.render(self._drawing, options)):
            ends = range(width, max(Segment.get_line_length(line), 1) + width, width)
            for part in Segment.divide(line, ends):
                yield from part
                yield Segment.line()


def can_redraw(drawn_on: Console) -> bool:
    """Whether a line can be drawn over on this console: it is a terminal, and none that only writes on."""
    return drawn_on.is_terminal and not drawn_on.is_dumb_terminal


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; what JSON has no type for, such as a time, as text."""
    console.print(json.dumps(value, indent=2, default=str), soft_wrap=True)


def print_failure(message: str) -> None:
    """Print on stderr, in one line, why this command ends."""
    error_console.print(Text.assemble(("oathbulk:", "bold red"), " ", escape_line(message)))


def name_program() -> str:
    """How to type `oathbulk` here: by its path, as it was called, where that is the only way to find it."""
    called = sys.argv[0]
    is_known = shutil.which("oathbulk") is not None or not called.endswith("/oathbulk")
    return "oathbulk" if is_known else shlex.quote(called)
