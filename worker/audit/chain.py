"""What the hash, and the HMAC, of a line of the audit cover: the hash of the line before, and the line's fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

# What the first line's hash covers in place of a line before it.
GENESIS = "0" * 64
# What a line's hash covers, beside the hash of the line before it.
FIELDS = ("id", "at", "actor", "action", "batch", "ticket", "facts")


def covered(former: str, line: Mapping[str, Any]) -> bytes:
    """The bytes that hash and HMAC are made of; `line` has the FIELDS and no others."""
    fields = dict(line) | {"at": line["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{former}\n{text}".encode()


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
