"""The command that was typed without `-o`, as it can be pasted: with a file to write to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

# How the file is called that a command writes, if nothing that was typed says more; the batch's name stands before it.
_ENDINGS = {"export": "export.csv", "report": "report.html"}


def complete_command(command: str, typed: Sequence[str], values: Mapping[str, Any]) -> str | None:
    """Write this command with its typed words, and a file to write to; None if it is none that writes a file of a
    batch. `values`: those of its options and arguments that were read, by name."""
    batch = values.get("batch")
    if command not in _ENDINGS or not batch:
        return None
    return shlex.join(["oathbulk", *typed, "-o", f"{batch}-{_name_ending(command, values)}"])


def _name_ending(command: str, values: Mapping[str, Any]) -> str:
    """Name what the file holds."""
    if chosen := next((name for name in ("left", "hand_out") if values.get(name)), values.get("status")):
        return f"{chosen.replace('_', '-')}.csv"
    return _ENDINGS[command]
