"""The journal's files: complete lines of one process each, whatever happens to the disk, and nothing secret in them."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from models.record_states import OtpState
from worker.journal import writer
from worker.journal.reader import Reader, find_files
from worker.journal.writer import KEEP_DAYS, FileJournal
from worker.leases.claim import Claim
from worker.pingone.errors import Answer
from worker.rules.progress import OtpProgress, Progress

USER, DEVICE, LEASE = "6f1d3c1e-user", "0f0b7a52-device", "0123456789abcdef0123456789abcdef"
CLAIM = Claim(41, 7, 12, LEASE, 0.0, "30870001", USER, DEVICE, b"sealed 308714", Progress(), is_otp1_marked=True)
SENT, ANSWERED = OtpProgress(OtpState.SENT, 1), OtpProgress(OtpState.ANSWERED, 1)
RESYNC = Answer(status=400, code="INVALID_DATA", detail_code="EXTRA_OTP_REQUIRED", message="the message")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 7, 1, 23, 59, 59, 500_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(directory: Path, clock: Clock) -> Iterator[FileJournal]:
    journal = FileJournal(directory, clock)
    yield journal
    journal.close()


def read(directory: Path) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted(directory.iterdir())]
    return [json.loads(line) for text in texts for line in text.splitlines() if line]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_line_says_how_an_otp_stands_what_pingone_said_and_what_comes_next(
    journal: FileJournal, directory: Path
) -> None:
    journal.write(CLAIM, 1, SENT)
    journal.write(CLAIM, 1, ANSWERED, RESYNC, "next_otp")
    common = {
        "at": "2026-07-01T23:59:59.500+00:00",
        "batch": 7,
        "row": 12,
        "record": 41,
        "device": DEVICE,
        "lease": LEASE,
        "otp": 1,
        "posts": 1,
        "next_counter": None,
    }
    nothing = {"status": None, "code": None, "detail_code": None, "then": None}
    answer = {"status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED", "then": "next_otp"}
    assert read(directory) == [
        common | {"state": "sent"} | nothing,
        common | {"state": "answered"} | answer,
    ]


def test_no_line_holds_an_otp_a_person_or_what_the_service_said_in_prose(journal: FileJournal, directory: Path) -> None:
    journal.write(CLAIM, 1, SENT)
    journal.write(CLAIM, 1, ANSWERED, RESYNC, "next_otp")
    (path,) = directory.iterdir()
    for word in ("308714", "sealed", USER, "the message"):
        assert word not in path.read_text()


def test_what_is_written_is_read_back(journal: FileJournal, directory: Path) -> None:
    journal.write(CLAIM, 2, ANSWERED, Answer(status=200), "active")
    (line,) = Reader(find_files([directory]))
    assert (line.batch, line.row, line.device, line.lease) == (7, 12, DEVICE, LEASE)
    assert (line.otp, line.state, line.posts, line.then) == (2, OtpState.ANSWERED, 1, "active")


def test_directory_and_file_are_their_owners_alone_whatever_the_umask(journal: FileJournal, directory: Path) -> None:
    before = os.umask(0)
    try:
        journal.write(CLAIM, 1, SENT)
    finally:
        os.umask(before)
    assert mode(directory) == 0o700
    assert [mode(path) for path in directory.iterdir()] == [0o600]


def test_a_link_that_waits_in_the_files_place_is_not_followed(
    journal: FileJournal, directory: Path, tmp_path: Path
) -> None:
    journal.write(CLAIM, 1, SENT)
    (path,) = directory.iterdir()
    journal.close()
    path.unlink()
    path.symlink_to(tmp_path / "precious")
    with capture_logs() as logs:
        journal.write(CLAIM, 1, SENT)
    assert not (tmp_path / "precious").exists()
    assert [entry["event"] for entry in logs] == ["journal_not_written"]


def test_a_day_has_a_file_of_its_own_named_for_the_process(journal: FileJournal, directory: Path, clock: Clock) -> None:
    journal.write(CLAIM, 1, SENT)
    clock.now = datetime(2026, 7, 2, tzinfo=UTC)
    journal.write(CLAIM, 1, ANSWERED, RESYNC, "next_otp")
    names = sorted(path.name for path in directory.iterdir())
    assert [name[:11] for name in names] == ["2026-07-01-", "2026-07-02-"]
    assert all(name.endswith(f"-{os.getpid()}.jsonl") for name in names)
    assert [line["state"] for line in read(directory)] == ["sent", "answered"]


def test_files_are_removed_when_their_last_line_is_old_and_others_are_left_alone(
    journal: FileJournal, directory: Path
) -> None:
    directory.mkdir(parents=True)
    ages = {"old.jsonl": KEEP_DAYS + 1, "younger.jsonl": KEEP_DAYS - 1, "old.txt": KEEP_DAYS + 1}
    for name, days in ages.items():
        (directory / name).touch()
        os.utime(directory / name, times=(time.time() - days * 24 * 3600,) * 2)
    journal.write(CLAIM, 1, SENT)
    left = {path.name for path in directory.iterdir()}
    assert len(left) == 3
    assert left > {"younger.jsonl", "old.txt"}


def test_a_line_that_was_cut_off_by_a_death_does_not_spoil_the_next(directory: Path, clock: Clock) -> None:
    killed, reborn = FileJournal(directory, clock), FileJournal(directory, clock)
    killed.write(CLAIM, 1, SENT)
    killed.close()
    (path,) = directory.iterdir()
    os.truncate(path, path.stat().st_size - 20)
    reborn.write(CLAIM, 1, ANSWERED, RESYNC, "next_otp")
    reborn.close()
    reader = Reader([path])
    assert [line.state for line in reader] == [OtpState.ANSWERED]
    assert (reader.lines, reader.unreadable) == (2, 1)


def test_a_full_disk_stops_nothing_is_said_once_and_what_is_written_later_can_be_read(
    journal: FileJournal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.write, [10_000, 30, 0, 0, 10_000]

    def write(descriptor: int, text: bytes) -> int:
        left = room.pop(0)
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, text[:left])

    monkeypatch.setattr(writer.os, "write", write)
    with capture_logs() as logs:
        for _ in range(5):
            journal.write(CLAIM, 1, SENT)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("journal_not_written", "warning")]
    assert "free disk space" in logs[0]["cure"]
    assert logs[0]["directory"] == str(directory)
    reader = Reader(find_files([directory]))
    assert [line.state for line in reader] == [OtpState.SENT] * 2
    assert reader.unreadable == 1


def test_a_directory_that_cannot_be_made_stops_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        FileJournal(tmp_path / "file" / "journal").write(CLAIM, 1, SENT)
    assert [entry["event"] for entry in logs] == ["journal_not_written"]


def test_the_lines_of_many_threads_are_whole(journal: FileJournal, directory: Path) -> None:
    def write() -> None:
        for _ in range(50):
            journal.write(CLAIM, 1, ANSWERED, RESYNC, "next_otp")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(directory)) == 400


KILLED = """
import os, signal, sys
from pathlib import Path
from models.record_states import OtpState
from worker.journal.writer import FileJournal
from worker.leases.claim import Claim
from worker.rules.progress import OtpProgress, Progress
journal = FileJournal(Path(sys.argv[1]))
claim = Claim(41, 7, 12, "lease", 0.0, "30870001", "user", "device", b"", Progress(), True)
journal.write(claim, 1, OtpProgress(OtpState.SENT, 1))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_line_outlives_the_kill_of_its_process(directory: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, directory], timeout=60, check=False).returncode == -9
    assert [line["state"] for line in read(directory)] == ["sent"]


def test_trying_whether_it_can_be_written_leaves_nothing_behind(directory: Path, tmp_path: Path) -> None:
    writer.try_to_write(directory)
    assert list(directory.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        writer.try_to_write(tmp_path / "file" / "journal")
