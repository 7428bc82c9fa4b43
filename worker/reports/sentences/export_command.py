"""The export of what is to come back, as a command that is printed to be pasted."""

from __future__ import annotations

from collections.abc import Collection
from shlex import quote

from worker.batches.names import choose_free_name


def write_export(batch: str, which: str, ending: str, names_taken: Collection[str]) -> str:
    """Write the command that exports these rows of a batch into a file of its name with this ending. `which`: the
    options that choose the rows; `names_taken`: names of batches. The file is given none of them, since it becomes a
    batch of its own name when it is loaded."""
    file = f"{choose_free_name(f'{batch}-{ending}', names_taken)}.csv"
    return f"oathbulk export {quote(batch)} {which} -o {quote(file)}"
