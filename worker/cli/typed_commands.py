"""Commands that are printed to be pasted: each is written with the options that were typed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from models.refused_row import REFUSED
from worker.cli.load_request import LoadRequest
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
