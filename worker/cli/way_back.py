"""What is said of an export whose rows are to be mended."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from worker.cli.homes import find_rehearsal
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things


def describe_way_back(installation: Installation, batch: str, file: Path, refused: int = 0) -> list[str]:
    """Say what is to be done with the file of an export, of which so many rows were refused; a line each."""
    if rehearsal := find_rehearsal(installation):
        return [rehearsal.describe_end()]
    lines = [f"Correct it (fresh OTPs, or other ids), then: oathbulk mend {quote(batch)} {quote(str(file))}"]
    if refused:
        lines.append(
            f"Of {count_things(refused, 'row')} that {agree(refused, 'was', 'were')} refused only the serial number"
            " is kept: write the other cells too, as your own file has them."
        )
    return lines
