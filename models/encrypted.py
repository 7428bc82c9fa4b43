"""The encrypted column: AES-256-GCM, bound to its row, with the key's id in front.

A sealed value is `key id (4 bytes) ‖ nonce (12) ‖ ciphertext and tag`. The associated data name the row, so a value
that was copied to another row does not open there. The first key seals; every key opens, by its id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary

KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12

# The type of the column. It holds what a Keyring sealed; opening takes the row's identity, which a type cannot know.
Encrypted = LargeBinary


class DecryptionError(Exception):
    """A sealed value does not open: its key is not in the ring, or it belongs to another row, or it was changed."""


def generate_key() -> str:
    """A new key for OATHBULK_ENCRYPTION_KEYS or OATHBULK_AUDIT_KEY: 32 random bytes, base64url."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def bound_to(batch_id: int, row_number: int) -> bytes:
    """The identity of a record's row, as associated data: known before the row is written, and never changed."""
    return f"record:{batch_id}:{row_number}".encode()


class Keyring:
    """The keys of an installation, the sealing one first. Raises ValueError for a key of the wrong form."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        raw = [decode_key(key) for key in keys]
        self._ciphers = {_key_id(key): AESGCM(key) for key in raw}
        # In front of every value that is sealed from now on.
        self.sealing_id = _key_id(raw[0])

    def seal(self, plaintext: bytes, identity: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self.sealing_id].encrypt(nonce, plaintext, identity)
        return self.sealing_id + nonce + ciphertext

    def open(self, sealed: bytes, identity: bytes) -> bytes:
        """The plaintext. Raises DecryptionError."""
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None:
            raise DecryptionError(
                "the key that encrypted this record is not among OATHBULK_ENCRYPTION_KEYS: add it behind the first"
            )
        nonce = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], identity)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("the encrypted OTPs do not belong to this record, or were changed") from error

    def is_sealed_by_first(self, sealed: bytes) -> bool:
        return sealed[:_ID_BYTES] == self.sealing_id


def decode_key(key: str) -> bytes:
    """The bytes of a key in the form of `generate_key`. Raises ValueError, which does not quote it."""
    try:
        # Strictly: two keys with the comma between them forgotten must not pass for the first.
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError("a key is 32 bytes in base64url: make one with `oathbulk keygen`")
    return raw


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"oathbulk key id" + key).digest()[:_ID_BYTES]
