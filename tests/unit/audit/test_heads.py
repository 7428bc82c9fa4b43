"""The head of the audit is written to a file, the system's log or a server; a failure is logged, and raised nowhere."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.servers.raw_server import RawServer

from worker.audit import heads
from worker.audit.heads import SYSLOG, Head, find_heads_place, note_heads, redact_place
from worker.config.settings import Settings

AT = datetime(2026, 5, 4, 13, 30, 0, 250_000, UTC)
SEVENTH, EIGHTH = Head(7, "a7" * 32, AT, "1d" * 4 + ":" + "c" * 64), Head(8, "b8" * 32, AT, None)
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged about a failure."""
    caplog.set_level(logging.WARNING)
    return caplog


def test_a_file_gets_a_line_a_head_and_keeps_the_lines_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "heads"

    note_heads(str(path), [SEVENTH])
    note_heads(str(path), [EIGHTH])

    assert path.read_text().splitlines() == [
        f"7 {'a7' * 32} 2026-05-04T13:30:00.250+00:00",
        f"8 {'b8' * 32} 2026-05-04T13:30:00.250+00:00",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_head_in_a_file_is_on_the_disk_when_the_command_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))

    note_heads(str(tmp_path / "heads"), [SEVENTH])

    assert synced == [tmp_path / "heads"]


def test_the_systems_log_gets_an_event_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "SYSLOG_SOCKET", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "log"))
        system.settimeout(10)

        note_heads(SYSLOG, [SEVENTH])

        event = system.recv(1000).rstrip(b"\0").decode()
    # Facility auth (4), severity info (6): https://datatracker.ietf.org/doc/html/rfc5424#section-6.2.1
    assert event == f"<{4 * 8 + 6}>oathbulk: audit {SEVENTH}"


def test_a_server_gets_a_post_a_head() -> None:
    with RawServer(lambda: [OK]) as server:
        note_heads(f"{server.url}/heads", [SEVENTH, EIGHTH])

        requests = list(server.requests)
    assert [request.split(b"\r\n")[0] for request in requests] == [b"POST /heads HTTP/1.1"] * 2
    assert [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests] == [
        {"line": head.line, "hash": head.hash, "mac": head.mac} for head in (SEVENTH, EIGHTH)
    ]


def test_a_place_that_takes_nothing_is_told_with_the_cure(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")

    for place in (tmp_path / "file" / "heads", tmp_path, tmp_path / "nowhere" / "heads", tmp_path / "pipe"):
        told.clear()
        note_heads(str(place), [SEVENTH, EIGHTH])

        (record,) = told.records
        message = record.getMessage()
        assert "line 7, 8" in message
        assert str(place) in message
        assert "OATHBULK_AUDIT_HEAD" in message
        assert "What was commanded is done" in message


def test_a_systems_log_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heads, "SYSLOG_SOCKET", str(tmp_path / "log"))

    note_heads(SYSLOG, [SEVENTH])

    assert "could not be noted in syslog:" in told.text


@pytest.mark.parametrize("status", [b"500 Oops", b"302 Found\r\nLocation: http://127.0.0.1:1/", b"404 Not Found"])
def test_a_server_that_refuses_is_told_without_what_stands_behind_its_name(
    status: bytes, told: pytest.LogCaptureFixture
) -> None:
    with RawServer(lambda: [b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"]) as server:
        note_heads(f"{server.url}/made-up-secret", [SEVENTH])

        assert f"could not be noted in {server.url} (HTTP {status[:3].decode()})" in told.text
    assert "made-up-secret" not in told.text


def test_a_server_that_does_not_answer_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    # Half of it is for connecting, which a busy machine may take its time for.
    monkeypatch.setattr(heads, "DEADLINE", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        note_heads(f"http://127.0.0.1:{deaf.getsockname()[1]}/heads", [SEVENTH])

    assert "no complete answer within 2 s" in told.text


def test_by_default_heads_go_to_the_home_of_the_embedded_stack_and_nowhere_else(tmp_path: Path) -> None:
    postgresql = "postgresql+psycopg://db/oathbulk"
    assert find_heads_place(Settings(home=tmp_path)) == str(tmp_path / "audit.heads")
    assert find_heads_place(Settings(home=tmp_path, audit_head=SYSLOG)) == SYSLOG
    assert find_heads_place(Settings(home=tmp_path, database_url=postgresql)) is None  # type: ignore[arg-type]
    assert find_heads_place(Settings(database_url=postgresql, audit_head="/heads")) == "/heads"  # type: ignore[arg-type]


def test_of_a_url_the_host_is_shown() -> None:
    assert redact_place("https://siem.example.com:8443/made-up-secret?x=y") == "https://siem.example.com:8443"
    assert redact_place("/var/log/heads") == "/var/log/heads"
