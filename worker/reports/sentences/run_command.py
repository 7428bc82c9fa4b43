"""The command that goes on with a batch which was loaded."""

from __future__ import annotations

from shlex import quote


def write_run(batch: str) -> str:
    """Write the command that works on a batch here, from where it is."""
    return f"oathbulk run {quote(batch)}"
