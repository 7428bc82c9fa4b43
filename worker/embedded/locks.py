"""Lock files that hold the pid of their holder, released by the kernel however the holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from worker.embedded.errors import EmbeddedError


def take_lock(path: Path) -> int | None:
    """The descriptor that holds the lock until its last copy is closed, or None while somebody else holds it.

    The descriptor is closed in child processes, unless it is passed to them by name. Raises EmbeddedError.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        # Somebody else's file, or a file system, mostly one on the network, that has no locks.
        raise EmbeddedError(
            f"{path} cannot be locked ({error.strerror}): set OATHBULK_HOME to a local directory of yours"
        ) from error
    return descriptor


def write_pid(path: Path, pid: int) -> None:
    """Name the holder; the file keeps its inode, on which the lock lies, and never looks empty in between."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        line = f"{pid}\n".encode()
        os.pwrite(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))
    finally:
        os.close(descriptor)


def read_pid(path: Path) -> int | None:
    """The pid last written, whether or not that process still holds the lock."""
    try:
        return int(path.read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
