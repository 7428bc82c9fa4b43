"""The audit's authentication: HMAC-SHA256 under keys that are not in the database.

A value is the key's id (4 bytes) and the HMAC, both hexadecimal, with a colon between them. The first key signs; every
key checks what it signed itself, so that the key can be changed.
"""

import hashlib
import hmac
from collections.abc import Sequence

from models.encrypted import decode_key

# Length of a key's id, in bytes.
_ID_BYTES = 4


class UnknownKey(Exception):
    """An HMAC was made with a key that is not among these keys."""


class AuditKeys:
    """The keys that authenticate lines of the audit; the first one signs. Raises ValueError for a key of the wrong
    form."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = {_key_id(key): key for key in map(decode_key, keys)}
        self._signing_id = next(iter(self._keys))

    def sign(self, content: bytes) -> str:
        """The HMAC of this content under the first key, with the key's id in front."""
        return self._sign_with(self._signing_id, content)

    def is_genuine(self, mac: str, content: bytes) -> bool:
        """Whether this HMAC was made of this content with one of these keys. Raises UnknownKey if its key is
        another."""
        key_id = mac.partition(":")[0]
        if key_id not in self._keys:
            raise UnknownKey
        return hmac.compare_digest(self._sign_with(key_id, content).encode(), mac.encode(errors="replace"))

    def _sign_with(self, key_id: str, content: bytes) -> str:
        return f"{key_id}:{hmac.new(self._keys[key_id], content, hashlib.sha256).hexdigest()}"


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"oathbulk audit key id" + key).digest()[:_ID_BYTES].hex()
