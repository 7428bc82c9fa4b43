"""The keys of this installation, from its settings, or from key files in the home of the embedded stack that only their
owner may read: one key a file."""

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from models.authenticated import AuditKeys
from models.encrypted import Keyring, decode_key
from worker.config.settings import ConfigError, Settings


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys of one kind come from: the setting `variable`, or `file` in the home. `unused`: when a damaged file
    may be deleted, so that a new key is made."""

    kind: str
    variable: str
    file: str
    unused: str


ENCRYPTION = KeySource("encryption key", "OATHBULK_ENCRYPTION_KEYS", "encryption.key", "no OTP is stored yet")
AUDIT = KeySource("audit key", "OATHBULK_AUDIT_KEY", "audit.key", "no line of the audit is authenticated yet")


def read_key_file(home: Path, source: KeySource) -> str:
    """The key of this kind in the home, 32 bytes as base64url. Raises ConfigError, which names the file and the cure,
    and never quotes the key."""
    path = home / source.file
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path} is open to other users: run `chmod 600 {path}`, and if one of them may have read it, replace "
                "the key too"
            )
        text = path.read_text(encoding="ascii").strip()
        decode_key(text)
    except FileNotFoundError as error:
        raise ConfigError(f"the {source.kind} {path} is missing: put it back from a backup") from error
    except OSError as error:
        raise ConfigError(
            f"the {source.kind} {path} cannot be read ({error.strerror}): mend that, or set {source.variable}"
        ) from error
    except ValueError:
        raise ConfigError(
            f"{path} holds no {source.kind}: put it back from a backup; where {source.unused}, delete it and a new one "
            "is made"
        ) from None
    return text


K = TypeVar("K")


def load_keyring(settings: Settings) -> Keyring:
    """Load the keys that encrypt OTPs. Raises ConfigError."""
    keyring = _load(ENCRYPTION, settings, settings.encryption_keys, Keyring)
    if keyring is None:
        # The URL may be none at all.
        _ = settings.database
        raise ConfigError(
            "OATHBULK_ENCRYPTION_KEYS is not set: a database that is not in the home needs it; make a key with "
            "`oathbulk keygen`"
        )
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
