"""The home of a single-machine installation: a private directory in which one `run` works at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from worker.embedded.errors import EmbeddedError
from worker.embedded.locks import read_more, read_pid, take_lock, write_pid

# The file whose lock means that a process works in the home; it holds the pid of that process. Below it stands, while a
# `run` works, the name of the batch on which it works alone, or an empty line if it works on all.
LOCK = "lock"
# A directory with one of these files is a home, whoever made it, and may be closed to others without asking.
HOME_FILES = (LOCK, "oathbulk.toml", "oathbulk.db", "encryption.key")
# Seconds for which taking the lock is tried again while its file names no live process: its holder is just about to
# write its pid, or to end.
RETRY_FOR = 0.5


class HomeInUse(Exception):
    """Another process works in this home. `work`: what is written of it below its pid."""

    def __init__(self, home: Path, pid: int, work: Sequence[str] = ()) -> None:
        super().__init__(f"{home} is in use by process {pid}{_describe_work(work)}")
        self.pid = pid


def _describe_work(work: Sequence[str]) -> str:
    """Say what the process in a home works on, and what to do."""
    match work:
        case [""]:
            return ", `oathbulk run`, which works on every batch that runs: what `oathbulk load` brings goes too"
        case [batch]:
            name = quote(batch)
            return (
                f", `oathbulk run {name}`, which works on {batch} alone (`oathbulk status {name}`): wait for its end, "
                "or end it with Ctrl-C, and go on with it later"
            )
    return ": wait for its end"


def make_home(home: Path) -> None:
    """Make the home with mode 0700, or give an existing one that mode. Raises EmbeddedError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            # The owner of the directory could replace our key with another.
            raise EmbeddedError(f"{home} belongs to another user: set OATHBULK_HOME to a directory of your own")
        if _is_open_to_others(home):
            _close_to_others(home)
    except OSError as error:
        raise EmbeddedError(
            f"{home} cannot be made a private directory ({error.strerror}): set OATHBULK_HOME to one of yours"
        ) from error


def make_private_file(path: Path) -> None:
    """Make an empty file that its owner alone may read, if there is none: SQLite would make its database for everybody,
    and its log beside it with the same mode."""
    # What hinders this hinders SQLite too, which says it better.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Hold the lock of the home; the kernel releases it when this process ends, even by kill -9.

    Raises HomeInUse, EmbeddedError.
    """
    make_home(home)
    descriptor = _lock_or_refuse(home)
    try:
        write_pid(home / LOCK, os.getpid())
        yield
    finally:
        write_pid(home / LOCK, os.getpid())
        os.close(descriptor)


def note_run(home: Path, batch: str | None) -> None:
    """Note that the `run` which holds the lock works on this batch alone, or on all if None, for those who want to know
    meanwhile."""
    write_pid(home / LOCK, os.getpid(), batch or "")


def find_run_alone(home: Path) -> str | None:
    """Find the batch on which a `run` works alone in this home; None if none runs, or one that works on all."""
    path = home / LOCK
    match read_more(path):
        case [batch] if batch and (pid := read_pid(path)) and _is_alive(pid):
            return batch
    return None


def _lock_or_refuse(home: Path) -> int:
    """Take the lock of the home and return its descriptor. Raises HomeInUse, EmbeddedError."""
    path = home / LOCK
    give_up_at = time.monotonic() + RETRY_FOR
    while (descriptor := take_lock(path)) is None:
        pid = read_pid(path)
        if (pid and _is_alive(pid)) or time.monotonic() > give_up_at:
            raise HomeInUse(home, pid or 0, read_more(path))
        time.sleep(0.01)
    return descriptor


def _is_open_to_others(home: Path) -> bool:
    return bool(home.stat().st_mode & 0o077)


def _close_to_others(home: Path) -> None:
    """Set mode 0700, but only for an empty directory or an old home: OATHBULK_HOME=/tmp must not lock all others out of
    /tmp. Raises EmbeddedError."""
    if any(home.iterdir()) and not any((home / name).exists() for name in HOME_FILES):
        raise EmbeddedError(
            f"{home} is open to other users and holds other files: set OATHBULK_HOME to a new directory, "
            f"or run `chmod 700 {home}` if it may be closed to them"
        )
    home.chmod(0o700)
    if _is_open_to_others(home):
        raise EmbeddedError(f"{home} lies on a file system without permissions: set OATHBULK_HOME to a local directory")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
