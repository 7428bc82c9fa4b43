"""Samples of vendors' files: reads one as a shipment would, but without asking for the ids that none of them has, and
compares its rows with what is expected."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.intake import Hints, Row, RowError
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, OpenFile
from worker.intake.formats.table import choose_format, find_format
from worker.vault.seed import Secret, Seed

SAMPLES = Path(__file__).parents[2] / "samples" / "formats"
# The made-up tokens of the samples: the secret of each serial number, in hexadecimal.
SECRETS = {
    "MADE0000001": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
    "MADE0000002": "a087daeb6fffc0811cccc88dfaf9cb509e3361cf",
    "MADE0000003": "6b1f85dfcd2763697c6e3d6af46643520fda2d9b",
    "MADE0000004": b"12345678901234567890".hex(),
    "MADE0000005": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105ba087daeb",
    "987654321": b"12345678901234567890".hex(),
    "MADE0000009": "7fcdbf5814d2ecc1952bbbe58d0ee3d3a7402c57904f7c94ae1fb430f94926d7",
    "9900001": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
    "cccccccccccb": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
}
# The OTPs that a token shows, from its counter 0 on.
OTPS = {"MADE0000001": ("308714", "367299", "262306"), "MADE0000002": ("749435", "283920", "000634")}

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


def hotp(serial: str, counter: int = 0, **row: Any) -> dict[str, Any]:
    return {"serial_number": serial, "counter": counter, **row}


def totp(serial: str, step: int, **row: Any) -> dict[str, Any]:
    return {"serial_number": serial, "otp_type": "totp", "time_step": step, **row}


def check(row: Row | RowError, expected: dict[str, Any] | str) -> None:
    """Compare a row with what is expected of it."""
    if isinstance(expected, str):
        assert isinstance(row, RowError)
        assert expected in row.reason
        return
    assert isinstance(row, Row), row
    seed = row.otps
    assert isinstance(seed, Seed)
    usual = {"otp_type": "hotp", "digits": 6, "hash_algorithm": "sha1", "time_step": None, "counter": 0}
    for name, value in (usual | expected).items():
        assert getattr(seed if name in usual else row, name) == value, name
    assert row.otp_type == seed.otp_type
    assert seed.secret == Secret(bytes.fromhex(SECRETS[row.serial_number]))
    for counter, otp in enumerate(OTPS.get(row.serial_number, ())):
        assert seed.mint(counter).reveal() == otp
