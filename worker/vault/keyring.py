"""Loads the keys of this installation: from its settings, or from key files in the home of the embedded stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import SecretStr

from models.authenticated import AuditKeys
from models.encrypted import Keyring
from worker.config.settings import ConfigError, Settings
from worker.vault.key_files import AUDIT, ENCRYPTION, KeySource, read_key_file

K = TypeVar("K")


def load_keyring(settings: Settings) -> Keyring:
    """Load the keys that encrypt OTPs. Raises ConfigError."""
    keyring = _load(ENCRYPTION, settings, settings.encryption_keys, Keyring)
    if keyring is None:
        # The URL may be none at all.
        _ = settings.database
        raise ConfigError("OATHBULK_ENCRYPTION_KEYS is not set: PostgreSQL needs it; make a key with `oathbulk keygen`")
    return keyring


def load_audit_keys(settings: Settings) -> AuditKeys | None:
    """Load the keys that authenticate lines of the audit; None if no OATHBULK_AUDIT_KEY is set and the database is not
    the embedded one, which has a key file. Raises ConfigError."""
    return _load(AUDIT, settings, settings.audit_key, AuditKeys)


def _load(
    source: KeySource, settings: Settings, setting: SecretStr | None, make: Callable[[Sequence[str]], K]
) -> K | None:
    if setting is not None:
        keys = setting.get_secret_value().split(",")
    elif settings.is_embedded_database:
        keys = [read_key_file(settings.home, source)]
    else:
        return None
    try:
        return make([key.strip() for key in keys if key.strip()])
    except ValueError as error:
        raise ConfigError(f"{source.variable}: {error}") from None
