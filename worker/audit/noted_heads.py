"""Heads that were noted outside are looked for in the chain as it stands: what was cut off or rewritten is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from models.audit import AuditLine

_GIVEN = re.compile(r"(?:([1-9][0-9]{0,17}):)?([0-9a-f]{64})")
# What worker.audit.heads writes: line, hash, time. A head in the system's log has that log's own words in front.
_NOTED = re.compile(r"(?:.*\boathbulk: audit )?([1-9][0-9]{0,17}) ([0-9a-f]{64}) \S+\n?")


class UnusableHead(Exception):
    """What was given as a head is none; the message says what is one."""


@dataclass(frozen=True, slots=True)
class NotedHead:
    """`line` is None where the hash alone was noted."""

    hash: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A noted head that the chain does not hold any more."""

    head: NotedHead
    why: str


def read_heads(given: str) -> list[NotedHead]:
    """Of a hash, of ID:HASH, or of a file of heads. Raises UnusableHead."""
    if match := _GIVEN.fullmatch(given.lower()):
        return [NotedHead(match[2], int(match[1]) if match[1] else None)]
    try:
        with Path(given).open(encoding="utf-8") as file:
            heads = list(_parse(given, file))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UnusableHead(
            f"{given!r} is neither a head (HASH or ID:HASH, 64 hexadecimal digits) nor a file of heads that can be "
            f"read ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not heads:
        raise UnusableHead(f"{given} holds no head: it is empty")
    return heads


def _parse(name: str, lines: Iterable[str]) -> Iterator[NotedHead]:
    for number, line in enumerate(lines, start=1):
        match = _NOTED.fullmatch(line)
        if match is None:
            raise UnusableHead(f"line {number} of {name} is no head (`ID HASH TIME`): mend or remove it")
        yield NotedHead(match[2], int(match[1]))


def find_missing(connection: Connection, heads: Iterable[NotedHead]) -> list[Missing]:
    """The heads that are not in the chain as it stands. Whether the chain is sound itself, `check` says."""
    chain: dict[int, str] = {line.id: line.hash for line in connection.execute(select(AuditLine.id, AuditLine.hash))}
    hashes, last = set(chain.values()), max(chain, default=0)
    return [Missing(head, why) for head in heads if (why := _why_missing(head, chain, hashes, last)) is not None]


def _why_missing(head: NotedHead, chain: dict[int, str], hashes: set[str], last: int) -> str | None:
    if head.line is None:
        return None if head.hash in hashes else "no line has this hash: the line was cut off or rewritten"
    if chain.get(head.line) == head.hash:
        return None
    if head.line > last:
        return f"line {head.line} was cut off: the audit ends with line {last}"
    return f"line {head.line} was rewritten after its head was noted"
