"""Hashes that chain the lines of the audit: each is made of the hash of the line before and of the line's fields."""

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


def encode_content(former: str, line: Mapping[str, Any]) -> bytes:
    """Encode what hash and HMAC of a line cover: the hash of the line before (`former`), and the line, which has the
    FIELDS and no others."""
    fields = dict(line) | {"at": line["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{former}\n{text}".encode()


def hash_content(content: bytes) -> str:
    """The hash of a line, in hexadecimal, by what `encode_content` returned."""
    return hashlib.sha256(content).hexdigest()
