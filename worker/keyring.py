"""The keys of this installation: from OATHBULK_ENCRYPTION_KEYS, or the key file of the embedded stack's home."""

from __future__ import annotations

import stat
from pathlib import Path

from models.encrypted import Keyring
from worker.config import ConfigError, Settings

KEY_FILE = "encryption.key"


def load_keyring(settings: Settings) -> Keyring:
    """Raises ConfigError."""
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value().split(",")
    elif settings.is_embedded_database:
        keys = [_read_private(settings.home / KEY_FILE)]
    else:
        raise ConfigError("OATHBULK_ENCRYPTION_KEYS is not set: PostgreSQL needs it; make a key with `oathbulk keygen`")
    try:
        return Keyring([key.strip() for key in keys if key.strip()])
    except ValueError as error:
        if settings.encryption_keys is None:
            path = settings.home / KEY_FILE
            raise ConfigError(f"{path} holds no encryption key: put it back from a backup") from None
        raise ConfigError(f"OATHBULK_ENCRYPTION_KEYS: {error}") from None


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} is open to others: chmod 600 {path}, and consider the key as known")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the encryption key {path} cannot be read: {error}") from error
