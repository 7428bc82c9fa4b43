"""Writes the journal: a line before an OTP goes out, and one with what became of it.

A line is handed to the kernel with one write, and not synced to the disk: it outlives the process and the database,
which is what it is for, but not a power cut."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from worker.leases.claim import Claim
from worker.pingone.errors import NO_ANSWER, Answer
from worker.rules.progress import OtpProgress

SUFFIX = ".jsonl"
# Days that a file is kept after its last line: longer than a batch takes, and than a backup is likely to be old.
KEPT_FOR = 90
# What a person can do where it cannot be written.
CURE = "free disk space, or set OATHBULK_JOURNAL to a directory that the workers may write to"

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal(Protocol):
    """Where attempts write down what they send."""

    def write(
        self, claim: Claim, ordinal: int, otp: OtpProgress, answer: Answer = NO_ANSWER, then: str | None = None
    ) -> None:
        """How this OTP stands now, what PingOne said, and what comes next (see `evidence`). Never raises."""
        ...


class NoJournal:
    """Keeps no journal."""

    def write(
        self, claim: Claim, ordinal: int, otp: OtpProgress, answer: Answer = NO_ANSWER, then: str | None = None
    ) -> None:
        pass


class FileJournal:
    """A file a day in a directory, for this process alone; thread-safe. A journal that cannot be written must not stop
    the work: it is said once in the log, and `oathbulk doctor` looks for it."""

    def __init__(self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._directory = directory
        self._now = now
        self._writer = f"{socket.gethostname()}-{os.getpid()}"
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._day = ""
        # The file's last line may have been cut short, so the next one begins on a line of its own.
        self._is_torn = False
        self._has_told = False

    def write(
        self, claim: Claim, ordinal: int, otp: OtpProgress, answer: Answer = NO_ANSWER, then: str | None = None
    ) -> None:
        at = self._now().isoformat(timespec="milliseconds")
        line = {
            "at": at,
            "batch": claim.batch_id,
            "row": claim.row_number,
            "record": claim.record_id,
            "device": claim.device_id,
            "lease": claim.lease_id,
            "otp": ordinal,
            "state": otp.state,
            "posts": otp.posts,
            "status": answer.status,
            "code": answer.code,
            "detail_code": answer.detail_code,
            "then": then,
        }
        text = f"{_encode(line)}\n".encode()
        with self._lock:
            try:
                self._append(at[:10], text)
            except OSError as error:
                self._tell(error)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _append(self, day: str, text: bytes) -> None:
        if self._descriptor is None or day != self._day:
            self.close()
            _remove_old(self._directory)
            self._descriptor, self._day = open_file(self._directory, f"{day}-{self._writer}"), day
            # A process that had this number before may have been killed in the middle of a line.
            self._is_torn = os.fstat(self._descriptor).st_size > 0
        if self._is_torn:
            text = b"\n" + text
        self._is_torn = True
        if os.write(self._descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, "a line was cut short")
        self._is_torn = False

    def _tell(self, error: OSError) -> None:
        if not self._has_told:
            self._has_told = True
            # Not at the top: commands know the journal too, and tell of nothing by a log.
            import structlog

            structlog.get_logger().warning(
                "journal_not_written", directory=str(self._directory), error=error.strerror, cure=CURE
            )


def open_file(directory: Path, name: str) -> int:
    """A file's descriptor, for appending; file and directory are made, for their owner alone, where they are not there
    yet. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(directory / f"{name}{SUFFIX}", flags, 0o600)


def try_to_write(directory: Path) -> None:
    """Write a file there and remove it. Raises OSError."""
    name = f"doctor-{secrets.token_hex(4)}"
    descriptor = open_file(directory, name)
    try:
        os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
        (directory / f"{name}{SUFFIX}").unlink()


def _remove_old(directory: Path) -> None:
    """Files of ours whose last line is older than KEPT_FOR."""
    oldest = time.time() - KEPT_FOR * 24 * 3600
    # Another process may have removed one at this moment.
    with suppress(OSError):
        for path in directory.glob(f"*{SUFFIX}"):
            if path.stat().st_mtime < oldest:
                path.unlink()
