"""The home of a single-machine installation: a private directory with keys, and with a lock so that only one `run`
works in it at a time."""

import fcntl
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from models.encrypted import generate_key
from worker.vault.keys import KEY_FILE, read_key_file

# The file that a process locks while it works in the home. Its first line is the pid; for a `run`, its second line is
# the name of its only batch, or empty if it works on all.
LOCK = "lock"
# A directory with one of these files is a home, and is closed to others without asking.
HOME_FILES = (LOCK, "oathbulk.toml", "oathbulk.db", KEY_FILE)
# Seconds for which to retry a lock whose file names no running process: its holder is about to write its pid, or end.
RETRY_FOR = 0.5


# The end of every message about a full disk.
FREE_SPACE = "free some space, then run the same command again to continue; nothing is lost"


class EmbeddedError(Exception):
    """The home, or a server in it, cannot be used; the message names the fault and the cure, but no secret."""


class HomeInUse(Exception):
    """Another process works in this home. `work`: the lines below its pid in the lock's file."""

    def __init__(self, home: Path, pid: int, work: Sequence[str] = ()) -> None:
        super().__init__(f"{home} is in use by process {pid}{_describe_work(work)}")
        self.pid = pid
        self._work = work

    def works_on(self, batch: str) -> bool:
        """Whether that process is a `run` of this batch, or of all batches."""
        return self._work in ([""], [batch])


def _describe_work(work: Sequence[str]) -> str:
    """Say what the process in a home works on, and what to do."""
    match work:
        case [""]:
            return " (`oathbulk run`), which works on every running batch, including batches that `oathbulk load` adds"
        case [batch]:
            name = quote(batch)
            return (
                f" (`oathbulk run {name}`), which works only on {batch} (`oathbulk status {name}`): wait until it "
                f"ends, or end it with Ctrl-C and continue it later"
            )
    return ": wait until it ends"


def make_home(home: Path) -> None:
    """Make the home with mode 0700, or give that mode to an existing one. Raises EmbeddedError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            # The owner of the directory could replace our key with another.
            raise EmbeddedError(f"{home} belongs to another user: set OATHBULK_HOME to a directory of your own")
        if _is_open_to_others(home):
            _close_to_others(home)
    except OSError as error:
        raise EmbeddedError(
            f"{home} cannot be made private ({error.strerror}): set OATHBULK_HOME to your own directory"
        ) from error


def refuse_lost_database(database: Path, heads: Path) -> None:
    """Refuse to create a new database if the last one was lost: its write-ahead log still exists, or the file `heads`
    in the home does, with heads of its audit. Raises EmbeddedError."""
    if database.exists():
        return
    log = database.with_name(f"{database.name}-wal")
    if log.exists():
        raise EmbeddedError(
            f"{database} is gone, and its write-ahead log {log.name} is there: restore the database from a backup "
            f"and remove {log.name} and {database.name}-shm (docs/operating.md, After a restore)"
        )
    if heads.exists():
        raise EmbeddedError(
            f"{database} is gone, and heads of its audit are saved in {heads}: restore the database from a backup "
            f"(docs/operating.md, After a restore); to begin with an empty one, remove {heads.name}"
        )


def make_private_file(path: Path) -> None:
    """Make an empty file that only its owner may read, if there is none: SQLite would create a database that everybody
    may read, and it gives its log the same mode."""
    # SQLite fails for the same reason, with a better message.
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
    """Write into the lock's file that this `run` works only on this batch, or on all if None."""
    write_pid(home / LOCK, os.getpid(), batch or "")


def find_run_alone(home: Path) -> str | None:
    """Find the only batch that a `run` works on in this home; None if no `run` works, or one works on all."""
    match read_holder(home / LOCK):
        case pid, [batch] if pid and batch and _is_alive(pid):
            return batch
    return None


def _lock_or_refuse(home: Path) -> int:
    """Take the lock of the home and return its descriptor. Raises HomeInUse, EmbeddedError."""
    path = home / LOCK
    give_up_at = time.monotonic() + RETRY_FOR
    while (descriptor := take_lock(path)) is None:
        pid, work = read_holder(path)
        if (pid and _is_alive(pid)) or time.monotonic() > give_up_at:
            raise HomeInUse(home, pid or 0, work)
        time.sleep(0.01)
    return descriptor


def _is_open_to_others(home: Path) -> bool:
    return bool(home.stat().st_mode & 0o077)


def _close_to_others(home: Path) -> None:
    """Set mode 0700, but only for an empty directory or an existing home: OATHBULK_HOME=/tmp must not lock everyone out
    of /tmp. Raises EmbeddedError."""
    if any(home.iterdir()) and not any((home / name).exists() for name in HOME_FILES):
        raise EmbeddedError(
            f"{home} is open to other users and holds other files: set OATHBULK_HOME to a new directory, "
            f"or run `chmod 700 {home}` to close it to them"
        )
    home.chmod(0o700)
    if _is_open_to_others(home):
        raise EmbeddedError(f"{home} is on a file system without permissions: set OATHBULK_HOME to a local directory")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def home_key(home: Path) -> str:
    """Read the encryption key, or make it if there is none. Raises ConfigError if the file is unusable, EmbeddedError
    if it cannot be made."""
    make_home(home)
    path = home / KEY_FILE
    try:
        if not path.exists():
            _create(path)
        return read_key_file(home)
    except OSError as error:
        cure = "fix that, or set OATHBULK_ENCRYPTION_KEYS"
        raise EmbeddedError(f"{path} cannot be made ({error.strerror}): {cure}") from error


def _create(path: Path) -> None:
    """Write a new key to a draft and link it to its path, so that a second process finds a whole key or none."""
    draft = write_draft(path, generate_key().encode() + b"\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make the key's name survive a power cut: without the key, what it encrypted is lost."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int | None:
    """Take the lock, and return the descriptor that holds it until its last copy is closed; None if another process
    holds it.

    Child processes inherit the descriptor only if it is passed to them explicitly. Raises EmbeddedError."""
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
        # The file belongs to another user, or the file system has no locks, like some network file systems.
        raise EmbeddedError(
            f"{path} cannot be locked ({error.strerror}): set OATHBULK_HOME to your own local directory"
        ) from error
    return descriptor


def write_pid(path: Path, pid: int, *more: str) -> None:
    """Write the pid of the lock's holder, and further lines, into the lock's file. The file is changed in place, since
    the lock belongs to its inode, and is never empty meanwhile."""
    lines = "".join(f"{line}\n" for line in (pid, *more)).encode()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
        file.write(lines)
        file.truncate()


def read_holder(path: Path) -> tuple[int | None, list[str]]:
    """Read the pid and the further lines that `write_pid` wrote last, whether or not that process still holds the lock;
    None and no lines if there is no pid."""
    try:
        first, *more = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return int(first), more
    except (OSError, ValueError):
        return None, []


def write_draft(path: Path, content: bytes) -> Path:
    """Write the content to a draft beside `path`, and sync it to the disk. The caller links or renames the draft, so
    that nobody reads half a file."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return draft


def spawn(
    argv: Sequence[str | Path], env: Mapping[str, str], log: Path, descriptor: int, directory: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that inherits this descriptor, and no variables but `env`. Raises OSError.

    It has its own session and no terminal, so that Ctrl-C reaches only the calling process, not the new one. Its output
    is appended to the log, which only its owner may read."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(opened, 0o600)
    with os.fdopen(opened, "ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=env,
            umask=0o077,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
