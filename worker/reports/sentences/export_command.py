"""How what is left of a batch is mended: the export of it, and the command that brings it back, to be pasted."""

from __future__ import annotations

from shlex import quote


def write_export(batch: str, which: str, ending: str) -> str:
    """Write the command that exports these rows of a batch into a file of its name with this ending. `which`: the
    options that choose the rows."""
    return f"oathbulk export {quote(batch)} {which} -o {quote(name_export(batch, ending))}"


def write_mend(batch: str, ending: str) -> str:
    """Write the command that brings the corrected file of this ending back into its batch."""
    return f"oathbulk mend {quote(batch)} {quote(name_export(batch, ending))}"


def name_export(batch: str, ending: str) -> str:
    """Name the file of an export."""
    return f"{batch}-{ending}.csv"
