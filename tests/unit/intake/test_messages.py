"""What is said about a file quotes no secret of it: looked for in every message about every sample, good and broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.data.seed_files import (
    EVERY_HINTS,
    SAMPLES,
    SECRETS,
    find_quoted,
    find_secrets,
    list_samples,
    read,
    read_messages,
    spell,
)

from worker.intake import Hints, UnusableFile

# A word of a file that may be a secret, or a part of one: no word of our language has a digit inside.
WORD = re.compile(r"[A-Za-z0-9+/.]{8,}")


def name(path: Path) -> str:
    return str(path.relative_to(SAMPLES))


@pytest.mark.parametrize("path", list_samples(), ids=name)
def test_no_message_quotes_a_secret(path: Path) -> None:
    # Secrets that no reading brings stand in the file itself.
    words = {word.lower() for word in WORD.findall(path.read_text("utf-8", "replace")) if re.search(r"\d", word)}
    for hints in (Hints(), *EVERY_HINTS):
        for _, _, message in read_messages(path, hints):
            assert find_quoted(message) == set()
            assert not [word for word in words if word in message.lower()]


# Secret, serial number and a number in a sample of each format without columns, each behind what stands before it.
WITHOUT_COLUMNS = {
    "pskc/default_namespace.xml": ("<PlainValue>|0vekr/sWOtlfNZP0xvmwW4moEFs=", "<SerialNo>|MADE0000001", 'Length="|6'),
    "safenet-xml/safenet_aladdin.xml": (
        "<Seed>|d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
        'serial="|MADE0000001',
        "Factor>|1",
    ),
    "deepnet-xml/dualshield.xml": (
        "<seed>|6b1f85dfcd2763697c6e3d6af46643520fda2d9b",
        "<serial>|MADE0000003",
        "<digits>|6",
    ),
    "graph-json/graph_one_assigned.json": (
        'Key": "|NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3',
        'Number": "|MADE0000003',
        'Seconds": |30',
    ),
    "etoken-dat/without_blank_lines.dat": (
        "sccKey=|d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
        "Id: |MADE0000001",
        "PwLen=|6",
    ),
}
SPOILT = ("", "1.00013E+12", "'1000", "A", "x" * 60, "MZXW6YTBOI", "abcdefgh!abcdefghabc", "a" * 21, "Q" * 250, "-1")


@pytest.mark.parametrize("sample", WITHOUT_COLUMNS)
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_cure_speaks_of_columns_and_excel_only_where_there_are_some(tmp_path: Path, sample: str, spoilt: str) -> None:
    text = (SAMPLES / sample).read_text()
    for before, value in (each.split("|") for each in WITHOUT_COLUMNS[sample]):
        assert before + value in text
        path = tmp_path / "file"
        path.write_text(text.replace(before + value, before + spoilt))
        for _, _, message in read_messages(path, EVERY_HINTS[0]):
            assert not re.search(r"\b(Excel|columns?|cells?|CSV|row)\b", message), message


@pytest.mark.parametrize("path", [path for path in list_samples() if path.parent.name != "broken"], ids=name)
def test_every_sample_that_is_not_broken_is_read_and_its_secrets_are_looked_for(path: Path) -> None:
    faults = []
    for hints in EVERY_HINTS:
        try:
            read(path, hints)
        except UnusableFile as fault:
            faults.append(fault)
    assert len(faults) < len(EVERY_HINTS), "add its key or password to EVERY_HINTS"
    for secret in find_secrets(path):
        assert all(
            find_quoted(f"cell {spelling.swapcase()} is wrong") for spelling in spell(secret) if len(spelling) > 7
        )


@pytest.mark.parametrize("secret", SECRETS.values())
def test_a_secret_is_found_in_every_spelling_and_in_pieces(secret: str) -> None:
    for spelling in spell(bytes.fromhex(secret)):
        for quoted in (
            spelling,
            spelling.rstrip("="),
            spelling[3:14],
            f"{spelling[:7]}-{spelling[7:]}",
            f" {spelling}",
        ):
            assert len(spelling) < 8 or find_quoted(f"what {quoted} says")
