"""Notes the head of the audit, which is the hash of its last line, as a line of a file after every line of the audit.

Whoever controls the database and the audit key can rewrite the audit. A head that was noted where they cannot write
shows that they did: the file is shipped like any log. Nothing secret is written there."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select

from models.audit import AuditLine
from worker.config.settings import Settings
from worker.observability.escaping import escape_line

# The file in the home of the embedded stack, in which heads are noted by default.
HEADS_FILE = "audit.heads"

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The number, hash and time of a line of the audit, when it was the last one."""

    line: int
    hash: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.line} {self.hash} {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}"


def find_heads_file(settings: Settings) -> Path | None:
    """The file in which heads are noted: OATHBULK_AUDIT_HEAD, or by default one in the home of the embedded stack; None
    for other databases."""
    if settings.audit_head is None and settings.is_embedded_database:
        return settings.home.absolute() / HEADS_FILE
    return Path(settings.audit_head) if settings.audit_head else None


def note_heads(path: Path, heads: Sequence[Head]) -> None:
    """Append heads to the file, a line each. A failure is logged and not raised, since the lines of the audit are
    committed already."""
    try:
        _append(path, heads)
    except OSError as error:
        numbers = ", ".join(str(head.line) for head in heads)
        log.warning(
            escape_line(
                f"The head of the audit (line {numbers}) could not be noted in {path} ({error}). What was "
                "commanded is done, and the next line's head is noted again. Mend the file, or set "
                "OATHBULK_AUDIT_HEAD to another"
            )
        )


def _append(path: Path, heads: Sequence[Head]) -> None:
    """Append all heads with one write, so that two processes do not mix their lines; a pipe without a reader must not
    block the command. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        content = "".join(f"{head}\n" for head in heads).encode()
        if os.write(descriptor, content) < len(content):
            raise OSError("only a part of it was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
