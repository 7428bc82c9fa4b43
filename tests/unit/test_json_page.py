"""docs/json.md has every key that a listing prints as JSON, and no other: its tables are compared with the golden
files."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.pages.reading import CHECKOUT, find_listed_keys

GOLDEN = CHECKOUT / "tests" / "golden"
# Golden files of what is no listing of a command.
NO_LISTINGS = {"desk", "webhook"}
COMMANDS = sorted({path.parent.name for path in GOLDEN.glob("*/*.json")} - NO_LISTINGS)
# Lists of objects that are told one by one where there is one only.
SEVERAL = re.compile(r"^batches\[\]\.")


def list_keys(value: Any, path: str = "") -> Iterator[str]:
    """List the keys of a value, each with its path: `hold.why`, `parts[].value`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            key = f"{path}.{name}" if path else name
            yield key
            yield from list_keys(inner, key)
    if isinstance(value, list):
        for each in value:
            yield from list_keys(each, f"{path}[]")


def find_printed(command: str) -> set[str]:
    """Find the keys that a command prints in any golden file. One that was refused has the exit code alone there."""
    printed = [json.loads(path.read_text(encoding="utf-8")) for path in (GOLDEN / command).glob("*.json")]
    keys = {key for told in printed if [*told] != ["exit"] for key in list_keys(told)}
    return {key if command == "purge" else SEVERAL.sub("", key) for key in keys}


LISTED = find_listed_keys()


def is_like(key: str, listed: str) -> bool:
    """Whether a key is the one that is listed, in which * stands for a name that is not ours."""
    return re.fullmatch(re.escape(listed).replace(r"\*", "[^.]+"), key) is not None


def test_every_command_that_lists_something_is_on_the_page() -> None:
    assert sorted(LISTED) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_that_is_printed_is_listed(command: str) -> None:
    listed = LISTED[command]
    several = {"batches"} if command in ("status", "run") else set()
    assert [key for key in find_printed(command) - several if not any(is_like(key, each) for each in listed)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_that_is_listed_is_printed(command: str) -> None:
    # A run shows what a status shows, of fewer batches.
    printed = find_printed(command) | (find_printed("status") if command == "run" else set())
    assert [each for each in LISTED[command] if not any(is_like(key, each) for key in printed)] == []
