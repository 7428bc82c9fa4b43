"""The format "Graph JSON": the hardware tokens of Microsoft Graph, and uniQuk's inventory, which is like it: a list, an
object with the list as `value` (Graph) or `inventory` (uniQuk), or one token alone. A row's number is the place of the
token in the list, counted from 1.

https://learn.microsoft.com/en-us/graph/api/resources/hardwareoathtokenauthenticationmethoddevice
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from worker.intake.files import BYTE_ORDER_MARK, Encoding, Hints, OpenFile
from worker.intake.rows import Row, RowError, RowRefused, UnusableFile
from worker.intake.tokens import Token, make_rows

# Bytes of a file at most. It is read as a whole; 50,000 tokens have some 15 MiB.
MAX_BYTES = 64 * 2**20
# What uniQuk calls the encodings; `text` are the bytes of the characters themselves.
ENCODINGS: dict[str, Encoding] = {"hex": "hex", "base32": "base32", "base64": "base64"}
# Values that a row keeps.
KEPT = ("manufacturer", "model")
CURE = "Export it again, and use the file as it came"


def is_graph_json(head: bytes) -> bool:
    """Tell JSON with the names of what every token has."""
    is_json = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith((b"{", b"["))
    return is_json and all(re.search(rb'"%b"\s*:' % name, head) for name in (b"serialNumber", b"secretKey"))


def read_graph_json(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Read the entries of the file, and return the columns that an export repeats and the rows. Raises UnusableFile."""
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        problem = f"is larger than {MAX_BYTES // 2**20} MiB, and JSON is read as a whole"
        raise UnusableFile(file.path, problem, "Split it into several files")
    try:
        document = json.loads(content.removeprefix(BYTE_ORDER_MARK).decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UnusableFile(file.path, "is no JSON, or was cut off", CURE, row_number=error.lineno) from None
    except (ValueError, RecursionError):
        raise UnusableFile(file.path, "is no JSON in UTF-8, or has lists in lists without end", CURE) from None
    if isinstance(document, dict):
        document = document.get("value", document.get("inventory", [document]))
    if not isinstance(document, list):
        raise UnusableFile(file.path, "holds no list of tokens", CURE)
    rows = make_rows(enumerate(document, 1), partial(_read_token, file.hints), file.hints, counted="token")
    return ["serial", "otp_type", *KEPT], rows


def _read_token(hints: Hints, entry: Any) -> Token:
    """Read the token in an entry of the list. Raises RowRefused."""
    if not isinstance(entry, dict) or not {"serialNumber", "secretKey"} <= entry.keys():
        raise RowRefused("the entry is not an object with a serialNumber and a secretKey: leave it out")
    serial = _read_text(entry, "serialNumber")
    user = entry.get("assignTo")
    secret, said = _read_text(entry, "secretKey", serial), _read_text(entry, "secretFormat", serial).lower()
    if said not in ("", "text", *ENCODINGS):
        raise RowRefused("secretFormat is none of hex, base32, base64 and text: write one of them", serial)
    return Token(
        serial=serial,
        secret=secret.encode() if said == "text" else secret,
        encoding=ENCODINGS.get(said) or hints.encoding or "base32",
        otp_type="totp",
        time_step=_read_text(entry, "timeIntervalInSeconds", serial),
        hash_algorithm=_read_text(entry, "hashFunction", serial),
        # An id of Entra's: PingOne may know the person by it, but not as its own id.
        external_id=_read_text(user, "id", serial) if isinstance(user, dict) else None,
        extra={name: value for name in KEPT if (value := _read_text(entry, name, serial))},
    )


def _read_text(entry: dict[str, Any], name: str, serial: str = "") -> str:
    """Read a text or a whole number as text; empty if it is missing. Raises RowRefused."""
    value = entry.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowRefused(f"{name} is neither a text nor a whole number: write it as Microsoft Graph does", serial)
    # What JSON can write after a backslash, and neither UTF-8 nor a database takes.
    if re.search(r"[\0\ud800-\udfff]", text := str(value)):
        raise RowRefused(f"{name} has half a character or a NUL: leave it out, or export it again", serial)
    return text
