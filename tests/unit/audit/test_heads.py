"""The head of the audit is written to a file; a failure is logged, and raised nowhere."""

from __future__ import annotations

import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.audit import Head, find_heads_file, note_head
from worker.config.settings import Settings

AT = datetime(2026, 5, 4, 13, 30, 0, 250_000, UTC)
SEVENTH, EIGHTH = Head(7, "a7" * 32, AT), Head(8, "b8" * 32, AT)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged about a failure."""
    caplog.set_level(logging.WARNING)
    return caplog


def test_a_file_gets_a_line_a_head_and_keeps_the_lines_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "heads"

    note_head(path, SEVENTH)
    note_head(path, EIGHTH)

    assert path.read_text().splitlines() == [
        f"7 {'a7' * 32} 2026-05-04T13:30:00.250+00:00",
        f"8 {'b8' * 32} 2026-05-04T13:30:00.250+00:00",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_head_in_a_file_is_on_the_disk_when_the_command_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))

    note_head(tmp_path / "heads", SEVENTH)

    assert synced == [tmp_path / "heads"]


def test_a_file_that_takes_nothing_is_told_with_the_cure(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")

    for place in (tmp_path / "file" / "heads", tmp_path, tmp_path / "nowhere" / "heads", tmp_path / "pipe"):
        told.clear()
        note_head(place, SEVENTH)

        (record,) = told.records
        message = record.getMessage()
        assert "line 7" in message
        assert str(place) in message
        assert "OATHBULK_AUDIT_HEAD" in message
        assert "What was commanded is done" in message


def test_by_default_heads_go_to_the_home_of_the_embedded_stack_and_nowhere_else(tmp_path: Path) -> None:
    postgresql = "postgresql+psycopg://db/oathbulk"
    assert find_heads_file(Settings(home=tmp_path)) == tmp_path / "audit.heads"
    assert find_heads_file(Settings(home=tmp_path, database_url=postgresql)) is None  # type: ignore[arg-type]
    assert find_heads_file(Settings(database_url=postgresql, audit_head="/heads")) == Path("/heads")  # type: ignore[arg-type]
