"""The home of a single-machine installation: a private directory that one `run` at a time works in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.embedded.errors import EmbeddedError
from worker.embedded.locks import read_pid, take_lock, write_pid

LOCK = "lock"
# A directory that holds one of these is a home, whoever made it: it may be closed to others unasked.
SIGNS = (LOCK, "oathbulk.toml", "oathbulk.db", "encryption.key")
# Seconds to try again where no live process is named: the holder is just writing its pid, or just ending.
PATIENCE = 0.5


class HomeInUse(Exception):
    """Another process works in this home."""

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__(
            f"{home} is in use by process {pid}: wait for its end, or set OATHBULK_HOME to another directory"
        )
        self.pid = pid


def make_home(home: Path) -> None:
    """Make the home, mode 0700, or see to it that an old one is so. Raises EmbeddedError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            # Its owner may put another key in the place of ours.
            raise EmbeddedError(f"{home} belongs to another user: set OATHBULK_HOME to a directory of your own")
        if _is_open(home):
            _close_to_others(home)
    except OSError as error:
        raise EmbeddedError(
            f"{home} cannot be made a private directory ({error.strerror}): set OATHBULK_HOME to one of yours"
        ) from error


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Hold the home; the kernel lets go when this process ends, by kill -9 too.

    Raises HomeInUse, EmbeddedError.
    """
    make_home(home)
    descriptor = _lock_or_refuse(home)
    try:
        write_pid(home / LOCK, os.getpid())
        yield
    finally:
        os.close(descriptor)


def _lock_or_refuse(home: Path) -> int:
    path = home / LOCK
    give_up_at = time.monotonic() + PATIENCE
    while (descriptor := take_lock(path)) is None:
        pid = read_pid(path)
        if (pid and _is_alive(pid)) or time.monotonic() > give_up_at:
            raise HomeInUse(home, pid or 0)
        time.sleep(0.01)
    return descriptor


def _is_open(home: Path) -> bool:
    return bool(home.stat().st_mode & 0o077)


def _close_to_others(home: Path) -> None:
    """Only an empty directory or an old home: OATHBULK_HOME=/tmp must not shut everybody out of /tmp."""
    if any(home.iterdir()) and not any((home / sign).exists() for sign in SIGNS):
        raise EmbeddedError(
            f"{home} is open to other users and holds other files: set OATHBULK_HOME to a new directory, "
            f"or run `chmod 700 {home}` if it may be closed to them"
        )
    home.chmod(0o700)
    if _is_open(home):
        raise EmbeddedError(f"{home} lies on a file system without permissions: set OATHBULK_HOME to a local directory")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
