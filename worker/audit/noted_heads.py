"""Looks for heads that were noted outside in the audit as it is now, and names those that were cut off or rewritten."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from models.audit import AuditLine

# A head as a person types it: HASH or ID:HASH.
_GIVEN_HEAD = re.compile(r"(?:([1-9][0-9]{0,17}):)?([0-9a-f]{64})")
# A line as `heads` writes it: line, hash, time.
_NOTED_LINE = re.compile(r"([1-9][0-9]{0,17}) ([0-9a-f]{64}) \S+\n?")


class UnusableHead(Exception):
    """What a person gave as a head is not one; the message says what is."""


@dataclass(frozen=True, slots=True)
class NotedHead:
    """A head that was noted outside; `line` is None if only the hash was noted."""

    hash: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class MissingHead:
    """A noted head that is not in the audit any more, and why."""

    head: NotedHead
    why: str


def read_heads(given: str) -> list[NotedHead]:
    """Read heads from what a person gave: a hash, ID:HASH, or the path of a file of heads. Raises UnusableHead."""
    if match := _GIVEN_HEAD.fullmatch(given.lower()):
        return [NotedHead(match[2], int(match[1]) if match[1] else None)]
    try:
        return _read_file(given)
    except (OSError, ValueError) as error:
        raise UnusableHead(
            f"{given!r} is neither a head (HASH or ID:HASH, 64 hexadecimal digits) nor a file of heads that can be "
            f"read ({getattr(error, 'strerror', None) or error})"
        ) from error


def read_noted_heads(path: Path | None) -> list[NotedHead]:
    """Read the heads that were noted in this file; none where there is none, and of a pipe. Raises UnusableHead."""
    if path is None:
        return []
    try:
        return _read_file(str(path)) if stat.S_ISREG(path.stat().st_mode) else []
    except (OSError, ValueError) as error:
        raise UnusableHead(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _read_file(path: str) -> list[NotedHead]:
    """Read a file of heads. Raises UnusableHead, OSError, ValueError."""
    with Path(path).open(encoding="utf-8") as file:
        heads = list(_parse_lines(path, file))
    if not heads:
        raise UnusableHead(f"{path} holds no head: it is empty")
    return heads


def _parse_lines(name: str, lines: Iterable[str]) -> Iterator[NotedHead]:
    for number, line in enumerate(lines, start=1):
        match = _NOTED_LINE.fullmatch(line)
        if match is None:
            raise UnusableHead(f"line {number} of {name} is no head (`ID HASH TIME`): mend or remove it")
        yield NotedHead(match[2], int(match[1]))


def find_missing(connection: Connection, heads: Iterable[NotedHead]) -> list[MissingHead]:
    """Find the noted heads that are not in the audit any more. Whether its lines are unchanged, `check` says."""
    chain: dict[int, str] = {line.id: line.hash for line in connection.execute(select(AuditLine.id, AuditLine.hash))}
    hashes, last = set(chain.values()), max(chain, default=0)
    return [
        MissingHead(head, why) for head in heads if (why := _find_why_missing(head, chain, hashes, last)) is not None
    ]


def _find_why_missing(head: NotedHead, chain: dict[int, str], hashes: set[str], last: int) -> str | None:
    if head.line is None:
        return None if head.hash in hashes else "no line has this hash: the line was cut off or rewritten"
    if chain.get(head.line) == head.hash:
        return None
    if head.line > last:
        return f"line {head.line} was cut off: the audit ends with line {last}"
    return f"line {head.line} was rewritten after its head was noted"
