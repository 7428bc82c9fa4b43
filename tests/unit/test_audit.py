"""Heads of the audit: as a command notes them in a file, whose failure is logged and raised nowhere; and as people give
them, a hash, a line and its hash, or a file of heads."""

import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from worker.audit import Head, NotedHead, UnusableHead, find_heads_file, note_head, read_heads, read_noted_heads
from worker.config.settings import Settings

AT = datetime(2026, 5, 4, 13, 30, 0, 250_000, UTC)
FIRST, SECOND = "a1" * 32, "b2" * 32


def test_a_file_gets_a_line_a_head_that_is_on_the_disk_at_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "heads", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    note_head(path, Head(7, FIRST, AT))
    note_head(path, Head(8, SECOND, AT))
    assert path.read_text().splitlines() == [
        f"7 {FIRST} 2026-05-04T13:30:00.250+00:00",
        f"8 {SECOND} 2026-05-04T13:30:00.250+00:00",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert synced == [path, path]
    assert read_heads(str(path)) == [NotedHead(FIRST, 7), NotedHead(SECOND, 8)]


@pytest.mark.parametrize("place", ["file/heads", ".", "nowhere/heads", "pipe"])
def test_a_file_that_takes_nothing_is_told_with_the_cure_and_a_pipe_is_not_waited_for(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    note_head(tmp_path / place, Head(7, FIRST, AT))
    (message,) = caplog.messages
    for said in ("line 7", str(tmp_path / place), "OATHBULK_AUDIT_HEAD", "The command is done"):
        assert said in message
    assert read_noted_heads(tmp_path / "pipe") == read_noted_heads(None) == []


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "/home/audit.heads"),
        ({"database_url": "postgresql+psycopg://db/oathbulk"}, None),
        ({"database_url": "postgresql+psycopg://db/oathbulk", "audit_head": "/heads"}, "/heads"),
    ],
)
def test_by_default_heads_go_to_the_home_of_the_embedded_stack_and_nowhere_else(
    given: dict[str, Any], place: str | None
) -> None:
    assert find_heads_file(Settings(home=Path("/home"), **given)) == (place and Path(place))


def test_a_hash_alone_or_with_its_line_is_a_head() -> None:
    assert read_heads(FIRST) == read_heads(FIRST.upper()) == [NotedHead(FIRST)]
    assert read_heads(f"12:{FIRST}") == [NotedHead(FIRST, 12)]


@pytest.mark.parametrize("given", ["", "nowhere", FIRST[:-1], f"0:{FIRST}", "nul\0", "x" * 5000])
def test_what_is_no_head_and_no_file_is_refused(given: str) -> None:
    with pytest.raises(UnusableHead, match="HASH or ID:HASH"):
        read_heads(given)


@pytest.mark.parametrize("content", ["", "\n", f"1 {FIRST}\n", f"1 {FIRST} 2 {SECOND} now\n", "\x1b[2J\n"])
def test_a_file_with_anything_but_heads_in_it_is_refused_by_its_line(tmp_path: Path, content: str) -> None:
    """A file that was damaged or tampered with must not pass for one whose heads were all found."""
    (tmp_path / "heads").write_text(content)
    with pytest.raises(UnusableHead, match=r"line 1 of .* is not a head|it is empty"):
        read_heads(str(tmp_path / "heads"))


def test_a_device_without_an_end_is_no_file_of_heads() -> None:
    with pytest.raises(UnusableHead, match="line 1 of /dev/zero is not a head"):
        read_heads("/dev/zero")
