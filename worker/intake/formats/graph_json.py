"""The format "Graph JSON": the hardware tokens of Microsoft Graph, and uniQuk's inventory, which is like it.

https://learn.microsoft.com/en-us/graph/api/resources/hardwareoathtokenauthenticationmethoddevice
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from worker.intake.foreign_files import BYTE_ORDER_MARK
from worker.intake.formats.format import Encoding, Hints, OpenFile
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.rows import Row, RowError, UnusableFile

# Bytes of a file at most. It is read as a whole; 50,000 tokens have some 15 MiB.
MAX_BYTES = 64 * 2**20
# The names under which the list of tokens may stand.
LISTS = ("value", "inventory")
# What uniQuk calls the encodings; `text` are the bytes of the characters themselves.
ENCODINGS: dict[str, Encoding] = {"hex": "hex", "base32": "base32", "base64": "base64"}
# Values that a row keeps.
KEPT = ("manufacturer", "model")
# The names of what every token has, as the first bytes of a file hold them.
_NAMES = (re.compile(rb'"serialNumber"\s*:'), re.compile(rb'"secretKey"\s*:'))
# What JSON can write after a backslash, and neither UTF-8 nor a database takes.
_NO_CHARACTER = re.compile(r"[\0\ud800-\udfff]")

OTHER_ENTRY = "the entry is not an object with a serialNumber and a secretKey: leave it out"
FORMAT_UNKNOWN = "secretFormat is none of hex, base32, base64 and text: write one of them"
CURE = "Export it again, and use the file as it came"


class GraphJson:
    """Graph's JSON of TOTP tokens: a list, an object with the list as `value` (Graph) or `inventory` (uniQuk), or one
    token alone. A row's number is the place of the token in the list, counted from 1."""

    name = "graph-json"
    title = "Graph JSON (Microsoft Graph, uniQuk): objects with serialNumber, secretKey and timeIntervalInSeconds"

    def is_format_of(self, head: bytes) -> bool:
        start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
        return start.startswith((b"{", b"[")) and all(name.search(head) for name in _NAMES)

    def read_columns(self, file: OpenFile) -> list[str]:
        if not _read(file):
            raise UnusableFile(file.path, "holds no tokens", CURE)
        return ["serial", "otp_type", *KEPT]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(enumerate(_read(file), 1), partial(_read_token, file.hints), file.hints, counted="token")


def _read(file: OpenFile) -> list[Any]:
    """Read the entries of the file. Raises UnusableFile."""
    content = file.stream.read(MAX_BYTES + 1)
    file.digest.update(content)
    if len(content) > MAX_BYTES:
        cure = "Split it into several files"
        raise UnusableFile(file.path, f"is larger than {MAX_BYTES // 2**20} MiB, and JSON is read as a whole", cure)
    try:
        document = json.loads(content.removeprefix(BYTE_ORDER_MARK).decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UnusableFile(file.path, "is no JSON, or was cut off", CURE, row_number=error.lineno) from None
    except (ValueError, RecursionError):
        raise UnusableFile(file.path, "is no JSON in UTF-8, or has lists in lists without end", CURE) from None
    if isinstance(document, dict):
        document = next((document[name] for name in LISTS if name in document), [document])
    if not isinstance(document, list):
        raise UnusableFile(file.path, "holds no list of tokens", CURE)
    return document


def _read_token(hints: Hints, entry: Any) -> Token:
    """Read the token in an entry of the list. Raises RowRefused."""
    if not isinstance(entry, dict) or not {"serialNumber", "secretKey"} <= entry.keys():
        raise RowRefused(OTHER_ENTRY)
    serial = _read_text(entry, "serialNumber")
    user = entry.get("assignTo")
    secret, encoding = _read_secret(entry, serial, hints)
    return Token(
        serial=serial,
        secret=secret,
        encoding=encoding,
        otp_type="totp",
        time_step=_read_text(entry, "timeIntervalInSeconds", serial),
        hash_algorithm=_read_text(entry, "hashFunction", serial),
        # An id of Entra's: PingOne may know the person by it, but not as its own id.
        external_id=_read_text(user, "id", serial) if isinstance(user, dict) else None,
        extra={name: value for name in KEPT if (value := _read_text(entry, name, serial))},
    )


def _read_secret(entry: dict[str, Any], serial: str, hints: Hints) -> tuple[str | bytes, Encoding | None]:
    """Read the secret and how it is encoded: as the entry says, or Base32. Raises RowRefused."""
    secret = _read_text(entry, "secretKey", serial)
    said = _read_text(entry, "secretFormat", serial).lower()
    if said == "text":
        return secret.encode(), None
    if said and said not in ENCODINGS:
        raise RowRefused(FORMAT_UNKNOWN, serial)
    return secret, ENCODINGS[said] if said else hints.encoding or "base32"


def _read_text(entry: dict[str, Any], name: str, serial: str = "") -> str:
    """Read a text or a whole number as text; empty if it is missing. Raises RowRefused."""
    value = entry.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowRefused(f"{name} is neither a text nor a whole number: write it as Microsoft Graph does", serial)
    if _NO_CHARACTER.search(text := str(value)):
        raise RowRefused(f"{name} has half a character or a NUL: leave it out, or export it again", serial)
    return text
