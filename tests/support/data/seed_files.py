"""Reads a sample as a shipment would, but without asking for the ids that no vendor's file has."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from worker.intake import Hints, Row, RowError
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, OpenFile
from worker.intake.formats.table import choose_format, find_format

SAMPLES = Path(__file__).parents[2] / "samples" / "formats"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(path: Path, hints: Hints = NO_HINTS, format_name: str | None = None) -> list[Row | RowError]:
    """Read the columns and then the rows of a file. Raises UnusableFile."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        chosen = find_format(path, format_name) if format_name else choose_format(path, head)
        digests = []
        rows: list[Row | RowError] = []
        for what in ("columns", "rows"):
            stream.seek(0)
            digest = hashlib.sha256()
            file = OpenFile(path, stream, digest, hints)
            if what == "columns":
                chosen.read_columns(file)
            else:
                rows.extend(chosen.read_rows(file, NOON))
            digests.append(digest.hexdigest())
    assert digests == [hashlib.sha256(path.read_bytes()).hexdigest()] * 2
    return rows
