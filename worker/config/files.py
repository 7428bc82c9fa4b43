"""Files that settings stand in: which settings are secret, and which other users may read or change such a file."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from worker.config.settings import ConfigError, Environment, Settings

# Where a container's engine mounts secrets: only the container's own user is there to read them, and whoever they
# belong to is a user of the host.
CONTAINER_SECRETS = Path("/run/secrets")

SECRETS = {
    prefix + field.upper()
    for model, prefix in ((Settings, "OATHBULK_"), (Environment, "PINGONE_"))
    for field, facts in model.model_fields.items()
    if "SecretStr" in str(facts.annotation)
}


def read_trusted(path: Path) -> str:
    """Read a file that says where secrets are sent, so that no other user may have written it.

    Raises ConfigError where one may; OSError or UnicodeDecodeError where it cannot be read."""
    with open(path, encoding="utf-8", opener=_open_at_once) as file:
        # What was opened is what is looked at, whatever lies under this name by now.
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"{path} is a pipe or a device: settings are read from a regular file")
        if not _is_container_secret(path):
            _refuse_foreign(path, facts)
            _refuse_replaceable(path)
        return file.read()


def is_open(path: Path) -> bool:
    """Whether every user may read it, once there."""
    return bool(path.stat().st_mode & stat.S_IROTH) and not _is_container_secret(path)


def refuse_open_secrets(path: Path) -> None:
    """Raise ConfigError where every user may read the file and get there: a home is closed to others, whatever the
    mode of its files. To be called for a file with a secret in it."""
    if is_open(path) and all(each.stat().st_mode & stat.S_IXOTH for each in path.resolve().parents):
        raise ConfigError(f"{path} holds a secret and can be read by every user: chmod 600 {path}")


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for whoever may write to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _is_container_secret(path: Path) -> bool:
    return path.resolve().is_relative_to(CONTAINER_SECRETS)


def _refuse_foreign(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to {_user_name(facts.st_uid)}, who may change where secrets are sent: "
            f"chown {_user_name(os.geteuid())} {path}, or use a copy of your own"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path} can be changed by other users, and with it where secrets are sent: chmod go-w {path}"
        )


def _refuse_replaceable(path: Path) -> None:
    """Raise ConfigError where every user may put another file in this one's place. In a sticky directory, such as
    /tmp, only its owner may."""
    for directory in {path.absolute().parent, path.resolve().parent}:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigError(
                f"{path} can be replaced by every user, and with it where secrets are sent: chmod o-w {directory}"
            )


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
