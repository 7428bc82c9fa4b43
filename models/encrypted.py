"""The encrypted column: AES-256-GCM, bound to its row, with the key's id in front.

A sealed value is `key id (4 bytes) ‖ nonce (12) ‖ ciphertext and tag`. The associated data names the row, so a value
copied to another row cannot be decrypted there. The first key encrypts; every key decrypts the values that have its
id."""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary

# Length of a key in bytes, for AES-256.
KEY_BYTES = 32
# Length of a key's id, in bytes.
_ID_BYTES = 4
# Length of a nonce in bytes, the one that GCM is designed for.
_NONCE_BYTES = 12

# The type of the column, which holds what `Keyring.seal` returned. It cannot decrypt by itself, since that needs the
# row's identity.
Encrypted = LargeBinary


class DecryptionError(Exception):
    """A sealed value cannot be decrypted: its key is not in the ring, it belongs to another row, or it was changed."""


def generate_key() -> str:
    """Make a new key for OATHBULK_ENCRYPTION_KEYS: 32 random bytes, base64url."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def identify_row(batch_id: int, row_number: int) -> bytes:
    """The identity of a record's row, used as associated data: known before the row is written, and never changed."""
    return f"record:{batch_id}:{row_number}".encode()


class Keyring:
    """The keys of an installation; the first one encrypts. Raises ValueError for a malformed key."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        raw = [decode_key(key) for key in keys]
        self._ciphers = {_key_id(key): AESGCM(key) for key in raw}
        # The id of the first key, at the start of every value sealed from now on.
        self.sealing_id = _key_id(raw[0])

    def seal(self, plaintext: bytes, identity: bytes) -> bytes:
        """Encrypt with the first key, for the row with this identity."""
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self.sealing_id].encrypt(nonce, plaintext, identity)
        return self.sealing_id + nonce + ciphertext

    def open(self, sealed: bytes, identity: bytes) -> bytes:
        """Decrypt a value of the row with this identity. Raises DecryptionError."""
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None:
            raise DecryptionError(
                "the key that encrypted this record is not among OATHBULK_ENCRYPTION_KEYS: add it after the first"
            )
        nonce = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], identity)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("the encrypted OTPs do not belong to this record, or were changed") from error

    def is_sealed_by_first_key(self, sealed: bytes) -> bool:
        """Whether a value is encrypted with the first key, not with one kept only for decrypting."""
        return sealed[:_ID_BYTES] == self.sealing_id


def decode_key(key: str) -> bytes:
    """Read a key in the form that `generate_key` returns. Raises ValueError, whose message does not quote the key."""
    try:
        # `validate`: without it, two keys without a comma between them would pass as the first one.
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError("a key is 32 bytes in base64url: create one with `oathbulk keygen`")
    return raw


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"oathbulk key id" + key).digest()[:_ID_BYTES]
