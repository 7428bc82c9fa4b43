"""Writes the journal: a line before an OTP is sent, and another with PingOne's answer.

A line is handed to the kernel with one write, and not synced to the disk: it survives the end of the process and the
loss of the database, which is its purpose, but not a power cut."""

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

# Of a journal's file: one JSON object a line.
SUFFIX = ".jsonl"
# Days for which a file is kept after its last line: longer than a batch takes, and longer than the age of a backup that
# somebody restores.
KEEP_DAYS = 90
# What a person can do if the journal cannot be written.
CURE = "free disk space, or set OATHBULK_JOURNAL to a directory that the workers may write to"

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal(Protocol):
    """Where an attempt writes down what it sends."""

    def write(
        self,
        claim: Claim,
        ordinal: int,
        otp: OtpProgress,
        answer: Answer = NO_ANSWER,
        then: str | None = None,
        next_counter: int | None = None,
    ) -> None:
        """Write a line: the state of OTP `ordinal` now, PingOne's answer, and what follows it (see `evidence`); with a
        seed, the lowest counter of which no OTP was sent. Never raises."""
        ...


class NoJournal:
    """Writes nothing, where no journal is kept."""

    def write(
        self,
        claim: Claim,
        ordinal: int,
        otp: OtpProgress,
        answer: Answer = NO_ANSWER,
        then: str | None = None,
        next_counter: int | None = None,
    ) -> None:
        pass


class FileJournal:
    """Writes a file a day into a directory, for this process alone; thread-safe.

    A journal that cannot be written must not stop the work: that is logged once, and `oathbulk doctor` checks for it.
    """

    def __init__(self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._directory = directory
        self._now = now
        self._writer = f"{socket.gethostname()}-{os.getpid()}"
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._day = ""
        # Whether the file may end in the middle of a line, so that the next one has to begin on a line of its own.
        self._is_torn = False
        self._has_warned = False

    def write(
        self,
        claim: Claim,
        ordinal: int,
        otp: OtpProgress,
        answer: Answer = NO_ANSWER,
        then: str | None = None,
        next_counter: int | None = None,
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
            "next_counter": next_counter,
        }
        text = f"{_encode(line)}\n".encode()
        with self._lock:
            try:
                self._append(at[:10], text)
            except OSError as error:
                self._warn_once(error)

    def close(self) -> None:
        """Close the file; the next line opens one again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _append(self, day: str, text: bytes) -> None:
        """Write a line to the file of the day, and open that first on a new day. Raises OSError."""
        if self._descriptor is None or day != self._day:
            self.close()
            _remove_old(self._directory)
            self._descriptor, self._day = open_file(self._directory, f"{day}-{self._writer}"), day
            # An earlier process with the same pid may have been killed in the middle of a line.
            self._is_torn = os.fstat(self._descriptor).st_size > 0
        if self._is_torn:
            text = b"\n" + text
        self._is_torn = True
        if os.write(self._descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, "a line was cut short")
        self._is_torn = False

    def _warn_once(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            # Not at the top: commands import this module too, and they log nothing.
            import structlog

            structlog.get_logger().warning(
                "journal_not_written", directory=str(self._directory), error=error.strerror, cure=CURE
            )


def open_file(directory: Path, name: str) -> int:
    """Open a journal for appending and return its descriptor. File and directory are made if they are missing, readable
    by their owner only. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(directory / f"{name}{SUFFIX}", flags, 0o600)


def try_to_write(directory: Path) -> None:
    """Check that a journal can be written there: write a file and remove it. Raises OSError."""
    name = f"doctor-{secrets.token_hex(4)}"
    descriptor = open_file(directory, name)
    try:
        os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
        (directory / f"{name}{SUFFIX}").unlink()


def _remove_old(directory: Path) -> None:
    """Remove journals whose last line is older than KEEP_DAYS."""
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    # Another process may remove the same files at this moment.
    with suppress(OSError):
        for path in directory.glob(f"*{SUFFIX}"):
            if path.stat().st_mtime < oldest:
                path.unlink()
