"""Answers `oathbulk --help` and `oathbulk --version` without importing typer, rich or any command, each of which takes
longer to import than Python takes to start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from textwrap import fill

from worker import __version__
from worker.cli.command_list import HEADINGS, OPTIONS
from worker.cli.exit_codes import ALL_ACTIVE, WRONG_USAGE

SUMMARY = "Activates whole shipments of hardware OATH tokens in PingOne MFA."
# Columns, where stdout is no terminal.
_USUAL_WIDTH = 80
# Columns; longer lines are hard to read.
_WIDEST = 120


def answer(arguments: Sequence[str]) -> int | None:
    """Print what these arguments ask for, if that is the list of commands or the version, and return the exit code;
    None if it is something else. Without any argument the list goes to stderr, as nothing was asked for."""
    if not arguments:
        _print(write_help(_measure_width()), is_asked_for=False)
        return WRONG_USAGE
    if list(arguments) in (["--help"], ["-h"]):
        _print(write_help(_measure_width()))
        return ALL_ACTIVE
    if list(arguments) == ["--version"]:
        print_version()
        return ALL_ACTIVE
    return None


def print_version() -> None:
    """Print name and version."""
    _print(f"oathbulk {__version__}\n")


def write_help(width: int) -> str:
    """Write the list of commands, in lines of at most so many columns."""
    sections = {"Options": OPTIONS}
    for heading, commands in HEADINGS.items():
        sections[heading] = {name: place.help for name, place in commands.items()}
    column = max(len(name) for lines in sections.values() for name in lines) + 4
    blocks = [f"Usage: oathbulk [OPTIONS] COMMAND [ARGS]...\n\n{SUMMARY}"]
    for heading, lines in sections.items():
        blocks.append("\n".join([f"{heading}:", *(_write_line(*line, column, width) for line in lines.items())]))
    blocks.append("oathbulk COMMAND --help tells more of each.")
    return "\n\n".join(blocks) + "\n"


def _print(text: str, *, is_asked_for: bool = True) -> None:
    """Print to stdout what was asked for, else to stderr. It may be closed, or its reader have seen enough, as `head`
    has."""
    stream = sys.stdout if is_asked_for else sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Python would try once more as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_line(name: str, text: str, column: int, width: int) -> str:
    indented = f"  {name}".ljust(column)
    return fill(text, width, initial_indent=indented, subsequent_indent=" " * column, break_on_hyphens=False)


def _measure_width() -> int:
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns, _WIDEST)
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH
