"""Fingerprints: by them a value is recognised when it comes again, although the value itself is not kept.

A fingerprint is an HMAC-SHA256 under a key that the database has encrypted only, so that nobody who has a copy of the
database alone can find out by trying which serial number, OTP or name it was made of."""

from __future__ import annotations

import hashlib
import hmac
import os

from sqlalchemy import Connection, insert, select, update

from models.encrypted import KEY_BYTES, DecryptionError, Keyring, identify_key
from models.past_token import FINGERPRINT
from models.sealed_key import SealedKey

# The name of the key in the table `sealed_key`.
_NAME = "fingerprints"


class KeyIsGone(Exception):
    """The key of the fingerprints cannot be decrypted; the message says what to do."""


class Fingerprints:
    """Makes fingerprints under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, kind: str, *values: str) -> str:
        """The fingerprint of these values, 32 hexadecimal digits. `kind` keeps those of a serial number apart from
        those of a device or a name with the same text."""
        # No value holds a NUL, so that no two lists of values become the same text.
        content = "\0".join((kind, *values)).encode()
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()[:FINGERPRINT]


def load_fingerprints(connection: Connection, keyring: Keyring) -> Fingerprints | None:
    """Load the key of the fingerprints; None if nothing was purged yet. Raises KeyIsGone."""
    sealed = connection.scalar(select(SealedKey.key).where(SealedKey.name == _NAME))
    if sealed is None:
        return None
    try:
        return Fingerprints(keyring.open(sealed, identify_key(_NAME)))
    except DecryptionError as error:
        raise KeyIsGone(
            "the key by which tokens of purged batches are recognised was encrypted with a key that is not among "
            "OATHBULK_ENCRYPTION_KEYS: add that one behind the first"
        ) from error


def make_fingerprints(connection: Connection, keyring: Keyring) -> Fingerprints:
    """Load the key of the fingerprints, and make it before if there is none. The caller's transaction keeps others from
    doing the same. Raises KeyIsGone."""
    if found := load_fingerprints(connection, keyring):
        return found
    key = os.urandom(KEY_BYTES)
    connection.execute(insert(SealedKey).values(name=_NAME, key=keyring.seal(key, identify_key(_NAME))))
    return Fingerprints(key)


def reseal_keys(connection: Connection, keyring: Keyring) -> int:
    """Encrypt with the first key every key that is encrypted with another one. Returns how many. Raises
    DecryptionError."""
    count = 0
    for name, sealed in connection.execute(select(SealedKey.name, SealedKey.key)).all():
        if not keyring.is_sealed_by_first_key(sealed):
            again = keyring.seal(keyring.open(sealed, identify_key(name)), identify_key(name))
            connection.execute(update(SealedKey).where(SealedKey.name == name).values(key=again))
            count += 1
    return count
