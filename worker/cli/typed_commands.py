"""Commands that are printed to be pasted: each is written with the options that were typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from models.refused_row import REFUSED
from worker.cli.load_request import LoadRequest
from worker.reports.sentences.export_command import write_export

# Where a plan is written that is only proposed.
PLAN_FILE = "plan.html"


def write_command(command: str, file: Path, words: Sequence[str]) -> str:
    """Write a command of `oathbulk` on a file with these options, for a shell."""
    # A name that begins with - would be taken for an option.
    named = f"./{file}" if str(file).startswith("-") else str(file)
    return shlex.join(["oathbulk", command, named, *words])


def write_listing_command(file: Path, request: LoadRequest) -> str:
    """Write the command that lists every refused row of this file."""
    return write_command("check", file, [*request.to_check_words(), "--json"])


def write_renamed_command(command: str, file: Path, request: LoadRequest) -> str:
    """Write the command that loads this file as a batch of another name than was typed; where it was compared with a
    plan, the command that plans it so, since a plan covers the name."""
    return write_plan_command(file, request, ()) if request.plan else write_command(command, file, request.to_words())


def write_refused_export(batch: str) -> str:
    """Write the command that lists every row that was refused when this batch was loaded."""
    return write_export(batch, f"--status {REFUSED}", REFUSED)


def write_plan_command(file: Path, request: LoadRequest, accepting: Iterable[str]) -> str:
    """Write the command that plans what is asked for, and accepts these findings too."""
    wider = replace(request, accepted=request.accepted.union(accepting))
    return write_command("plan", file, [*wider.to_words(), "-o", PLAN_FILE])
