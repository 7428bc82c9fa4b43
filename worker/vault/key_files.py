"""Key files: one key a file, in the home of the embedded stack, that only its owner may read."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from models.encrypted import decode_key
from worker.config.settings import ConfigError


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
