"""Where the commands print: what was asked for on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    console.print(json.dumps(value, indent=2, default=str), markup=False)
