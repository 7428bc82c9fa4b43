"""Files that were cut off, at each byte: what loads of one is what the whole file has, to the last fact. A last row
without a line break at its end that is whole still loads."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from support.data.seed_files import NOON, SAMPLES

from worker.intake import Hints, Row, RowError, UnusableFile
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import OpenFile
from worker.intake.formats.table import FORMATS, choose_format

# What opens the encrypted samples.
KEYS = {"key": bytes.fromhex("00112233445566778899aabbccddeeff"), "password": b"made-up-pass"}
# What a person may say beside the file: nothing, or what a row that was cut off does not say any more.
HINTS = (Hints(**KEYS), Hints(otp_type="hotp", **KEYS), Hints(otp_type="totp", time_step=30, **KEYS))
ALL_SAMPLES = sorted(path for root in (SAMPLES, SAMPLES.parent / "otp_pairs") for path in root.glob("*/*"))
# Bytes of a sample that are cut at each of its bytes; of a larger one, so many at its beginning and at its end are.
SMALL, AT_BEGINNING, AT_END = 1200, 64, 512


# Samples of a refused row whose fault stands at its end, and may be cut away; what is left is good.
FAULT_AT_END = {
    "etoken_dat_no_colon.dat",
    "etoken_dat_two_in_a_block.dat",
    "nexus_too_many_fields.txt",
    "oath_csv_counter_too_high.csv",
    "oath_csv_hash_md5.csv",
    "oath_csv_too_many_fields.csv",
    "too_many_fields.csv",
}


def read(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row | RowError]:
    """Read columns and rows; none of a file that is refused."""
    path = Path("tokens")
    try:
        chosen = FORMATS[format_name] if format_name else choose_format(path, content[:HEAD])
        chosen.read_columns(OpenFile(path, io.BytesIO(content), hashlib.sha256(), hints))
        return list(chosen.read_rows(OpenFile(path, io.BytesIO(content), hashlib.sha256(), hints), NOON))
    except UnusableFile:
        return []


def read_loaded(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row]:
    return [row for row in read(content, hints, format_name) if isinstance(row, Row)]


def choose_lengths(content: bytes) -> list[int]:
    """Choose how many bytes are left of a sample."""
    size = len(content)
    return [left for left in range(size) if size <= SMALL or left < AT_BEGINNING or left >= size - AT_END]


def read_right_rows(content: bytes, hints: Hints, format_name: str | None) -> list[Row]:
    """Read the rows that a file has; of one that is refused as a whole, those of its lines above the fault."""
    if read(content, hints, format_name):
        return read_loaded(content, hints, format_name)
    ends = [place for place, byte in enumerate(content, 1) if byte == ord("\n")]
    return [row for end in ends for row in read_loaded(content[:end], hints, format_name)]


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_that_is_cut_at_any_byte_gives_rows_of_the_whole_file_alone(path: Path) -> None:
    # The rounds of PBKDF2 in some samples take too long to be done hundreds of times.
    content = path.read_bytes().replace(b">20000<", b">1<")
    is_tree = path.suffix in (".xml", ".json")
    for hints in HINTS[:1] if is_tree else HINTS:
        for name in {None} if is_tree else {None, path.parent.name} & {None, *FORMATS}:
            right = read_right_rows(content, hints, name)
            refused = {row.row_number for row in read(content, hints, name) if isinstance(row, RowError)}
            for left in choose_lengths(content):
                wrong = [row for row in read_loaded(content[:left], hints, name) if row not in right]
                if path.name in FAULT_AT_END:
                    wrong = [row for row in wrong if row.row_number not in refused]
                assert not wrong, (left, name, content[:left][-40:])
