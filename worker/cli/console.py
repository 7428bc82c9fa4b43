"""Where the commands print: what was asked for on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

# Text is printed as it is: a file may be named `lot [7].csv`, and a message may quote a section of a TOML file.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
error_console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(value: Any) -> None:
    console.print(json.dumps(value, indent=2, default=str))
