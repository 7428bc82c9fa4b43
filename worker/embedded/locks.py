"""Lock files, which contain the pid of their holder. The kernel releases the lock however the holder ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from worker.embedded.errors import EmbeddedError


def take_lock(path: Path) -> int | None:
    """Take the lock: the descriptor that holds it until its last copy is closed, or None if another process holds it.

    Child processes do not inherit the descriptor, unless it is passed to them explicitly. Raises EmbeddedError.
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
        # The file belongs to another user, or the file system has no locks, as some on the network.
        raise EmbeddedError(
            f"{path} cannot be locked ({error.strerror}): set OATHBULK_HOME to a local directory of yours"
        ) from error
    return descriptor


def write_pid(path: Path, pid: int, *more: str) -> None:
    """Write the pid of the lock's holder into its file, and what else is to be known of it, a line each. The file is
    changed in place, since the lock belongs to its inode, and is not empty at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lines = "".join(f"{line}\n" for line in (pid, *more)).encode()
        os.pwrite(descriptor, lines, 0)
        os.ftruncate(descriptor, len(lines))
    finally:
        os.close(descriptor)


def read_pid(path: Path) -> int | None:
    """Read the pid that was written last, whether or not that process still holds the lock; None if there is none."""
    try:
        return int(_read_lines(path)[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None


def read_more(path: Path) -> list[str]:
    """Read what else was written of the lock's holder, a line each; nothing if nothing was."""
    with suppress(OSError):
        return _read_lines(path)[1:]
    return []


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
