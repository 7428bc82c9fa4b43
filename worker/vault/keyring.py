"""Loads the keys of this installation: from its settings, or from key files in the home of the embedded stack."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from models.authenticated import AuditKeys
from models.encrypted import Keyring
from worker.config.settings import ConfigError, Settings

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys of one kind come from: a setting, or a file in the home."""

    kind: str
    variable: str
    file: str
    # When a damaged file may be deleted, so that a new key is made, in the words of an error message.
    unused: str


ENCRYPTION = KeySource("encryption key", "OATHBULK_ENCRYPTION_KEYS", "encryption.key", "no OTP is stored yet")
AUDIT = KeySource("audit key", "OATHBULK_AUDIT_KEY", "audit.key", "no line of the audit is authenticated yet")


def load_keyring(settings: Settings) -> Keyring:
    """Load the keys that encrypt OTPs. Raises ConfigError."""
    keyring = _load(ENCRYPTION, settings, settings.encryption_keys, Keyring)
    if keyring is None:
        raise ConfigError("OATHBULK_ENCRYPTION_KEYS is not set: PostgreSQL needs it; make a key with `oathbulk keygen`")
    return keyring


def load_audit_keys(settings: Settings) -> AuditKeys | None:
    """Load the keys that authenticate lines of the audit; None if no OATHBULK_AUDIT_KEY is set and the database is not
    the embedded one, which has a key file. Raises ConfigError."""
    return _load(AUDIT, settings, settings.audit_key, AuditKeys)


def _load(
    source: KeySource, settings: Settings, setting: SecretStr | None, make: Callable[[Sequence[str]], K]
) -> K | None:
    """Load the keys of one kind, from the setting if it is set, else from the file if the database is the embedded one;
    None if there are none."""
    path = settings.home / source.file
    if setting is not None:
        keys = setting.get_secret_value().split(",")
    elif settings.is_embedded_database:
        keys = [_read_private(path, source.kind)]
    else:
        return None
    try:
        return make([key.strip() for key in keys if key.strip()])
    except ValueError as error:
        if setting is None:
            raise ConfigError(f"{path} holds no {source.kind}: put it back from a backup") from None
        raise ConfigError(f"{source.variable}: {error}") from None


def _read_private(path: Path, kind: str) -> str:
    """Read a key file, which nobody but its owner may be able to read. Raises ConfigError."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} is open to others: chmod 600 {path}, and consider the key as known")
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise ConfigError(f"the {kind} {path} is missing: put it back from a backup") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the {kind} {path} cannot be read: {error}") from error
