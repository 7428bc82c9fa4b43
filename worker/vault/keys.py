"""The encryption keys of this installation: from its settings, or from the key file in the home of the embedded stack,
which only its owner may read and which holds one key."""

import stat
from pathlib import Path

from models.encrypted import Keyring, decode_key
from worker.config.settings import ConfigError, Settings

# The key file in the home.
KEY_FILE = "encryption.key"


def read_key_file(home: Path) -> str:
    """Read the encryption key in the home, 32 bytes as base64url. Raises ConfigError, which names the file and the
    cure, and never quotes the key."""
    path = home / KEY_FILE
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path} is open to other users: run `chmod 600 {path}`, and if one of them may have read it, replace "
                "the key too"
            )
        text = path.read_text(encoding="ascii").strip()
        decode_key(text)
    except FileNotFoundError as error:
        raise ConfigError(f"the encryption key {path} is missing: put it back from a backup") from error
    except OSError as error:
        raise ConfigError(
            f"the encryption key {path} cannot be read ({error.strerror}): mend that, or set OATHBULK_ENCRYPTION_KEYS"
        ) from error
    except ValueError:
        raise ConfigError(
            f"{path} holds no encryption key: put it back from a backup; where no OTP is stored yet, delete it and a "
            "new one is made"
        ) from None
    return text


def load_keyring(settings: Settings) -> Keyring:
    """Load the keys that encrypt OTPs. Raises ConfigError."""
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value().split(",")
    elif settings.is_embedded_database:
        keys = [read_key_file(settings.home)]
    else:
        # The URL may be none at all.
        _ = settings.database
        raise ConfigError(
            "OATHBULK_ENCRYPTION_KEYS is not set: a database that is not in the home needs it; make a key with "
            "`oathbulk keygen`"
        )
    try:
        return Keyring([key.strip() for key in keys if key.strip()])
    except ValueError as error:
        raise ConfigError(f"OATHBULK_ENCRYPTION_KEYS: {error}") from None
