"""Commands that are printed to be pasted: with the options that were typed, and for the rows of an export."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from models.refused_row import REFUSED
from worker.cli.homes import find_rehearsal
from worker.cli.load_request import LoadRequest
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things
from worker.reports.sentences import write_export


def write_command(command: str, file: Path, words: Sequence[str]) -> str:
    """Write a command of `oathbulk` on a file with these options, for a shell."""
    # A name that begins with - would be taken for an option.
    named = f"./{file}" if str(file).startswith("-") else str(file)
    return shlex.join(["oathbulk", command, named, *words])


def write_listing_command(file: Path, request: LoadRequest) -> str:
    """Write the command that lists every refused row of this file."""
    return write_command("check", file, [*request.to_check_words(), "--json"])


def write_refused_export(batch: str) -> str:
    """Write the command that lists every row that was refused when this batch was loaded."""
    return write_export(batch, f"--status {REFUSED}", REFUSED)


def describe_way_back(installation: Installation, batch: str, file: Path, refused: int = 0) -> list[str]:
    """Say what is to be done with the file of an export, of which so many rows were refused; a line each."""
    if rehearsal := find_rehearsal(installation):
        return [rehearsal.describe_end()]
    lines = [f"Correct it (fresh OTPs, or other ids), then: oathbulk mend {shlex.join([batch, str(file)])}"]
    if refused:
        lines.append(
            f"Of {count_things(refused, 'row')} that {agree(refused, 'was', 'were')} refused only the serial number"
            " is kept: write the other cells too, as your own file has them."
        )
    return lines
