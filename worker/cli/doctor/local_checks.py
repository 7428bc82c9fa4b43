"""The checks of this machine: the home, its disk, files with keys, the last backup, the broker."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from worker.cli.doctor.finding import Finding, fault, not_known
from worker.cli.homes import describe_empty_home
from worker.config.sources import SECRETS, find_credentials, is_readable_by_all
from worker.embedded.home import FREE_SPACE
from worker.installation import broker_check
from worker.installation.installation import Installation
from worker.observability.counting import format_duration
from worker.vault.keys import AUDIT, ENCRYPTION

# Bytes that should be free: room for a large batch and the logs.
SPARE_BYTES = 500 * 1000 * 1000
# Seconds after which a backup is too old: one a day, and two hours for it to take.
LONGEST_WITHOUT_BACKUP = 26 * 60 * 60.0


def check_home(installation: Installation) -> Finding:
    """Name the home, and check that it is closed to other users."""
    home = installation.settings.home.absolute()
    if installation.is_empty:
        return Finding("home", describe_empty_home(installation, "doctor"))
    if not home.exists():
        return Finding("home", f"{home}, which is made when it is needed")
    if home.stat().st_mode & 0o077 and installation.has_home:
        return fault("home", f"{home} is open to other users", f"chmod 700 {home}")
    return Finding("home", str(home))


def check_disk(home: Path) -> Finding:
    """Check the room on the disk of the home."""
    place = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free in {place}"
    return Finding("disk", detail) if free >= SPARE_BYTES else fault("disk", detail, FREE_SPACE)


def check_key_files(installation: Installation) -> Finding:
    """Check that the files with keys and secrets are ours, and can be read by nobody else."""
    own = list(_find_home_keys(installation))
    named = list(_find_named_files(installation))
    open_ones = [path for path in own if path.stat().st_mode & 0o077]
    open_ones += [path for path in named if is_readable_by_all(path)]
    if open_ones:
        paths = " ".join(map(str, open_ones))
        return fault(
            "key files", f"other users can read {paths}", f"chmod 600 {paths}; replace what they may have read"
        )
    if foreign := [path for path in own if path.stat().st_uid != os.geteuid()]:
        paths = " ".join(map(str, foreign))
        return fault("key files", f"another user owns {paths}", f"chown it to the user that runs oathbulk: {paths}")
    return Finding("key files", f"{len(own) + len(named)} with keys and secrets, closed to other users")


def _find_home_keys(installation: Installation) -> Iterator[Path]:
    """Find the keys in the home; none where it is closed to this user, who works with servers then."""
    home = installation.settings.home
    if os.access(home, os.X_OK):
        yield from (path for source in (ENCRYPTION, AUDIT) if (path := home / source.file).exists())


def _find_named_files(installation: Installation) -> Iterator[Path]:
    """Find the files that variables name for secrets, and those of systemd."""
    credentials = find_credentials(installation.variables)
    for variable in sorted(SECRETS):
        file = installation.variables.get(f"{variable}_FILE", "")
        path = Path(file) if file else credentials.get(variable)
        if path is not None and os.access(path, os.F_OK) and path.is_file():
            yield path


def check_backup(stamp: Path | None) -> Finding:
    """Tell the age of the last backup, by the file that it touches when it is done."""
    if stamp is None:
        cure = "let your backup touch a file when it is done, and name that file with OATHBULK_BACKUP_STAMP"
        return not_known("backup", "no setting says where to look", cure)
    try:
        age = time.time() - stamp.stat().st_mtime
    except OSError as error:
        return fault("backup", f"{stamp} cannot be read ({error.strerror})", "see whether a backup was ever made")
    detail = f"the last one was made {format_duration(max(age, 0.0))} ago"
    if age > LONGEST_WITHOUT_BACKUP:
        return fault("backup", detail, "make one: a restored database knows nothing of what was sent since")
    return Finding("backup", detail)


def describe_broker(installation: Installation) -> str:
    """Check the broker, and name its program and version. Raises ConfigError, redis.RedisError."""
    if installation.settings.redis_url is None:
        return "`oathbulk run` brings its own Valkey"
    return broker_check.describe_broker(installation.settings)
