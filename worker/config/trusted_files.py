"""Reads settings files, after checking who else may read, change, or replace them. Such a file decides where the client
secret and OTPs go, or contains a secret itself. So no other user may change it or, if it contains a secret, read it.
Container engines mount secret files that users of the host own, so the owner and mode of those are not checked."""

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from worker.config.settings import ConfigError

# Where a container engine mounts secrets. Only the container's own user can read them there, but the file's owner is a
# user of the host: so owner and mode are not checked.
CONTAINER_SECRETS = Path("/run/secrets")

# Characters; settings files have a few thousand.
LARGEST = 1_000_000


def read_trusted(path: Path) -> str:
    """Read a file that decides where secrets are sent, so no other user may be able to change or replace it. Raises
    ConfigError if another user can, or if the file is unreadable; FileNotFoundError if it is missing."""

    def check(facts: os.stat_result) -> None:
        _refuse_foreign(path, facts)
        _refuse_replaceable(path)

    return _read_checked(path, check)


def read_value(named_by: str, path: Path, *, is_secret: bool) -> str:
    """Read the file with one setting's value. If the value is secret, not every user may read the file; otherwise, no
    other user may change it, since it may be a URL that secrets are sent to. `named_by`: what names the file. Raises
    ConfigError."""

    def check(facts: os.stat_result) -> None:
        if not is_secret:
            _refuse_foreign(path, facts)
        elif facts.st_mode & stat.S_IROTH:
            raise ConfigError(f"{path} can be read by every user: chmod 600 {path}, or 640 for a group")

    try:
        return _read_checked(path, check).strip()
    except FileNotFoundError as error:
        raise ConfigError(f"{named_by}: {path} cannot be read: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{named_by}: {error}") from error


def refuse_open_secrets(path: Path) -> None:
    """Raise ConfigError if every user can read this file, which contains a secret. In a directory that is closed to
    others, such as the home, a file is safe whatever its mode."""
    is_readable = path.stat().st_mode & stat.S_IROTH and not _is_container_secret(path)
    if is_readable and all(each.stat().st_mode & stat.S_IXOTH for each in path.resolve().parents):
        raise ConfigError(f"{path} holds a secret and can be read by every user: chmod 600 {path}")


def _read_checked(path: Path, check: Callable[[os.stat_result], None]) -> str:
    """Read a settings file after the check, unless a container engine mounted it. Every file that a setting names is
    opened here. Raises ConfigError, FileNotFoundError."""
    try:
        with open(path, encoding="utf-8", opener=_open_without_waiting) as file:
            # The open file is checked, not the path, which may lead to another file by now.
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigError(f"{path} is a pipe or a device: settings are read from a regular file")
            if not _is_container_secret(path):
                check(facts)
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    # A path or text that is not UTF-8, and a path with a NUL byte, are ValueErrors.
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if len(text) > LARGEST:
        raise ConfigError(f"{path} is too large for a settings file: name another")
    return text


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; do not wait for a pipe's writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _is_container_secret(path: Path) -> bool:
    return path.resolve().is_relative_to(CONTAINER_SECRETS)


def _refuse_foreign(path: Path, facts: os.stat_result) -> None:
    """Raise ConfigError if a user other than root or this one owns the file, or may write to it."""
    if facts.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to {_find_user_name(facts.st_uid)}, who could redirect your secrets: chown "
            f"{_find_user_name(os.geteuid())} {path}, or use a copy of your own"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be changed by other users, who could redirect your secrets: chmod go-w {path}")


def _refuse_replaceable(path: Path) -> None:
    """Raise ConfigError if every user may replace this file. In a sticky directory, such as /tmp, only its owner
    may."""
    for directory in {path.absolute().parent, path.resolve().parent}:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigError(
                f"{path} can be replaced by every user, who could redirect your secrets: chmod o-w {directory}"
            )


def _find_user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
