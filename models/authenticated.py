"""The audit's authentication: HMAC-SHA256 under keys that are not in the database.

A value is the key's id (4 bytes) and the HMAC, hexadecimal, with a colon between. The first key signs; every key checks
what it signed, so that the key can be changed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from models.encrypted import decode_key

_ID_BYTES = 4


class UnknownKey(Exception):
    """A value was made under a key that is not among these."""


class AuditKeys:
    """The keys that authenticate lines, the signing one first. Raises ValueError for a key of the wrong form."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = {_key_id(key): key for key in map(decode_key, keys)}
        self._signing_id = next(iter(self._keys))

    def sign(self, content: bytes) -> str:
        return self._under(self._signing_id, content)

    def is_genuine(self, mac: str, content: bytes) -> bool:
        """Whether one of these keys made it of this content. Raises UnknownKey."""
        key_id = mac.partition(":")[0]
        if key_id not in self._keys:
            raise UnknownKey
        return hmac.compare_digest(self._under(key_id, content).encode(), mac.encode(errors="replace"))

    def _under(self, key_id: str, content: bytes) -> str:
        return f"{key_id}:{hmac.new(self._keys[key_id], content, hashlib.sha256).hexdigest()}"


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"oathbulk audit key id" + key).digest()[:_ID_BYTES].hex()
