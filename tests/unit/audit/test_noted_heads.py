"""Heads as people give them: a hash, a line and its hash, or a file of heads."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.audit import Head, NotedHead, UnusableHead, read_heads, read_noted_heads

FIRST, SECOND = "a1" * 32, "b2" * 32


def test_a_hash_alone_or_with_its_line_is_a_head() -> None:
    assert read_heads(FIRST) == [NotedHead(FIRST)]
    assert read_heads(FIRST.upper()) == [NotedHead(FIRST)]
    assert read_heads(f"12:{FIRST}") == [NotedHead(FIRST, 12)]


def test_a_file_has_heads_as_they_were_noted(tmp_path: Path) -> None:
    at = datetime(2026, 5, 4, tzinfo=UTC)
    file = tmp_path / "heads"
    file.write_text(f"{Head(1, FIRST, at)}\n{Head(2, SECOND, at)}\n")

    assert read_heads(str(file)) == [NotedHead(FIRST, 1), NotedHead(SECOND, 2)]


@pytest.mark.parametrize("given", ["", "nowhere", FIRST[:-1], f"0:{FIRST}", "nul\0", "x" * 5000])
def test_what_is_no_head_and_no_file_is_refused(given: str) -> None:
    with pytest.raises(UnusableHead, match="HASH or ID:HASH"):
        read_heads(given)


@pytest.mark.parametrize("content", ["", "\n", f"1 {FIRST}\n", f"1 {FIRST} 2 {SECOND} now\n", "\x1b[2J\n"])
def test_a_file_with_anything_but_heads_in_it_is_refused_by_its_line(tmp_path: Path, content: str) -> None:
    """A file that was damaged or tampered with must not pass for one whose heads were all found."""
    file = tmp_path / "heads"
    file.write_text(content)
    with pytest.raises(UnusableHead, match=r"line 1 of .* is no head|it is empty"):
        read_heads(str(file))


def test_a_pipe_in_which_heads_are_noted_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "heads")
    assert read_noted_heads(tmp_path / "heads") == []
    assert read_noted_heads(None) == []
