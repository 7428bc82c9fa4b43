"""How much room a terminal has for a drawing, and texts that are made to fit into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from worker.cli.wrapping import wrap
from worker.observability.escaping import escape


@dataclass(frozen=True, slots=True)
class Room:
    """How many columns and lines a drawing may take."""

    width: int
    height: int

    def narrow(self, columns: int) -> Room:
        """The room that is left beside so many columns."""
        return Room(max(self.width - columns, 1), self.height)


def measure_room(drawn_on: Console) -> Room | None:
    """Measure the terminal, but for its last line, which the prompt needs; None if it is none."""
    if not drawn_on.is_terminal:
        return None
    width, height = drawn_on.size
    return Room(width, max(height - 1, 1))


def break_lines(text: Text, room: Room | None) -> list[Text]:
    """Break a text into lines that are no longer than the room is wide, but for a command or a word that is."""
    safe = _show_controls(text)
    return [safe] if room is None else wrap(safe, room.width)


def count_lines(lines: Sequence[Text], room: Room) -> int:
    """Count the lines that these take on a terminal, with those in which a long command goes on."""
    return sum(max(-(-line.cell_len // room.width), 1) for line in lines)


def cut_line(text: Text, room: Room | None) -> Text:
    """Cut a text, with an ellipsis, where the room ends."""
    safe = _show_controls(text)
    if room is not None:
        safe.truncate(room.width, overflow="ellipsis")
    return safe


def _show_controls(text: Text) -> Text:
    """Show control characters now: to show one takes several columns, which have to be counted."""
    return Text(escape(text.plain), style=text.style)
