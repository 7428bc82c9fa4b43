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
