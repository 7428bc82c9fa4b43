"""Lines with a label in front: on a terminal they are broken between words and go on below their text; in a pipe each
stays one line, so that nothing is cut and other programs can search it."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from worker.cli.wrapping import wrap
from worker.observability.escaping import escape_line

# Columns that are left for the text on a terminal, however narrow that is.
_NARROWEST = 20


@dataclass(frozen=True, slots=True)
class LabelledLine:
    """A text behind its label, indented by so many columns. `width` is that of the label with the gap behind it."""

    label: str
    text: str
    indent: int = 0
    width: int = 10
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = escape_line(self.label)
        head = Text(" " * self.indent + label + " " * max(self.width - cell_len(label), 1), style="dim")
        text = Text(escape_line(self.text), style=self.style)
        if options.no_wrap:
            yield head + text
            return
        left = max(options.max_width - head.cell_len, _NARROWEST)
        for number, line in enumerate(wrap(text, left)):
            yield (head if number == 0 else Text(" " * head.cell_len)) + line
