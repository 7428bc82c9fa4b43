"""Where the commands print: what was asked for on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console


def _open_console(*, stderr: bool) -> Console:
    """Text is printed as it is: a file may be named `lot [7].csv`, and a message may quote a section of a TOML file."""
    opened = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    # A person's terminal gets lines that are broken between words, a log or a pipe gets them whole.
    opened.soft_wrap = not opened.is_terminal
    return opened


console = _open_console(stderr=False)
error_console = _open_console(stderr=True)


def print_json(value: Any) -> None:
    console.print(json.dumps(value, indent=2, default=str), soft_wrap=True)
