"""Samples of vendors' files: reads one as a shipment would, but without asking for the ids that none of them has,
compares its rows with what is expected, and finds the secrets of all samples in what is said about them."""

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from worker.intake.files import HEAD, NO_HINTS, Hints, OpenFile
from worker.intake.formats import choose_format, find_format, open_table
from worker.intake.rows import Row, RowError, UnusableFile
from worker.vault.otps import Secret, Seed

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

# The keys and passwords that came apart from the samples.
KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
AES_256_KEY = bytes.fromhex("00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100")
RFC_KEY = bytes.fromhex("12345678901234567890123456789012")
PASSWORD, RFC_PASSWORD = b"made-up-pass", b"qwerty"
# With one of these, each sample is read that is not broken.
EVERY_HINTS = tuple(
    Hints(otp_type="totp", time_step=30, key=key, password=password)
    for key, password in ((KEY, PASSWORD), (AES_256_KEY, RFC_PASSWORD), (RFC_KEY, RFC_PASSWORD))
)
# Characters of a secret by which a message is found that quotes a part of it.
PIECE = 8

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(path: Path, hints: Hints = NO_HINTS, format_name: str | None = None) -> list[Row | RowError]:
    """Read the rows of a file. Raises UnusableFile."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        chosen = find_format(path, format_name) if format_name else choose_format(path, head)
        stream.seek(0)
        file = OpenFile(path, stream, hints)
        _, rows = open_table(chosen, file, NOON)
        read_rows = list(rows)
        assert file.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
    return read_rows


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


def list_samples() -> list[Path]:
    """List the samples of all formats, and the broken ones."""
    return sorted(path for path in SAMPLES.glob("*/*") if path.is_file())


def read_messages(path: Path, hints: Hints) -> Iterator[tuple[str, int | None, str]]:
    """Yield what is refused of a file, the whole `file` or a `row`, its line or row, and the message without the file's
    path."""
    try:
        rows = read(path, hints)
    except UnusableFile as error:
        yield "file", error.row_number, str(error).replace(str(path), "")
        return
    for row in rows:
        if isinstance(row, RowError):
            yield "row", row.row_number, row.reason


def find_secrets(path: Path) -> Iterator[bytes]:
    """Find the secrets that a sample brings, with whichever hints read it."""
    for hints in EVERY_HINTS:
        with contextlib.suppress(UnusableFile):
            seeds = [row.otps for row in read(path, hints) if isinstance(row, Row)]
            yield from (seed.secret.reveal() for seed in seeds if isinstance(seed, Seed))


def spell(secret: bytes) -> Iterator[str]:
    """Spell a secret in every way in which a file may: its characters, hexadecimal, Base32 and Base64; without
    paddings, capitals and what stands between characters, which `find_pieces` leaves out too."""
    yield from (secret.hex(), base64.b32encode(secret).decode(), base64.b64encode(secret).decode())
    yield secret.decode("ascii", errors="ignore")


def find_pieces(text: str) -> set[str]:
    """Find all pieces of a text, without regard to capitals, blanks and hyphens."""
    characters = re.sub(r"[\s=-]", "", text.lower())
    return {characters[place : place + PIECE] for place in range(len(characters) - PIECE + 1)}


@lru_cache
def find_secret_pieces() -> frozenset[str]:
    """Find the pieces of every secret of the samples, and of their keys and passwords, in every spelling."""
    secrets = {secret for path in list_samples() for secret in find_secrets(path)}
    secrets |= {KEY, AES_256_KEY, RFC_KEY, PASSWORD, RFC_PASSWORD}
    return frozenset(piece for secret in secrets for spelling in spell(secret) for piece in find_pieces(spelling))


def find_quoted(message: str) -> set[str]:
    """Find the pieces of secrets of the samples that a message quotes."""
    return find_pieces(message) & find_secret_pieces()
