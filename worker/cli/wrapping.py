"""Breaks texts for a terminal into lines: between words, but never within a command, which is there to be copied and
pasted. A line break in it would end it too early."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from worker.cli.command_list import COMMANDS

# A word with the blanks behind it; the first one with those before it, too.
_WORD = re.compile(r"^\s*\S+\s*|\S+\s*|\s+")
# One begins with a backtick, or with its program. Settings may stand before that.
_COMMAND = re.compile(rf"\s*(`|([A-Z_]+=('[^']*'|\S+) )*(\S*/)?(oathbulk ({'|'.join(COMMANDS)})|celery -A)\b)")
# Words that are looked at to see whether a command begins.
_LOOKED_AT = 6
# What ends a command within a sentence.
_MARKS = (",", ";", ":", ".", ")")


def wrap(text: Text, width: int) -> list[Text]:
    """Break a text into lines of at most so many columns. A command that is longer stays one line, which the terminal
    then folds as it shows it, and so does a single word."""
    paragraphs = text.split("\n", allow_blank=True)
    lines = [line for each in paragraphs for line in each.divide(_find_breaks(each.plain, width))]
    for line in lines:
        line.rstrip()
    return lines


def _find_breaks(paragraph: str, width: int) -> list[int]:
    """Find where lines begin, but for the first."""
    breaks, used, at = [], 0, 0
    for part in _split(_WORD.findall(paragraph)):
        if used and used + cell_len(part.rstrip()) > width:
            breaks.append(at)
            used = 0
        used += cell_len(part)
        at += len(part)
    return breaks


def _split(words: Sequence[str]) -> Iterator[str]:
    """Yield what is not broken: words, and whole commands."""
    part, is_command = "", False
    for place, word in enumerate(words):
        is_command = is_command or _COMMAND.match("".join(words[place : place + _LOOKED_AT])) is not None
        part += word
        if not is_command or _ends_command(part.strip()):
            yield part
            part, is_command = "", False
    if part:
        yield part


def _ends_command(part: str) -> bool:
    """Whether a command ends here: with its backtick, or at a mark that is not within quotation marks."""
    if part.startswith("`"):
        return part.count("`") > 1
    return part.endswith(_MARKS) and part.count("'") % 2 == 0
