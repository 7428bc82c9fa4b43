"""The audit: who commanded what for which batch, when, and on which ticket. A line that is changed later is found.

The lines are a hash chain: each line's hash covers the hash of the line before. Whoever controls the database can
rewrite the whole chain. So the hash of each new line, the audit's head, is also noted in a file outside, which is
shipped like any log to a place where they cannot write: that shows what they rewrote. Nothing in the file is secret.
"""

import getpass
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from models.audit import Action, AuditLine
from models.change import UNNAMED, Change
from worker.config.settings import Settings
from worker.database.engine import AUDIT_LOCK, Database
from worker.observability.wording import escape_line

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


def note_head(path: Path, head: Head) -> None:
    """Append a head to the file. A failure is logged and not raised, since the line of the audit is committed
    already."""
    # With one write, so that two processes do not mix their lines; a pipe without a reader must not block the command.
    flags, line = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, f"{head}\n".encode()
    try:
        with os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0) as file:
            if (file.write(line) or 0) < len(line):
                raise OSError("only a part of it was written")
            os.fsync(file.fileno())
    except OSError as error:
        log.warning(
            escape_line(
                f"The head of the audit (line {head.line}) could not be noted in {path} ({error}). The command is "
                f"done, and the next line's head will be noted. Fix the file, or set OATHBULK_AUDIT_HEAD to another"
            )
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives a command, the ticket that it refers to, and where the head of the line about it is noted."""

    name: str
    ticket: str | None = None
    # Called with the head of each line, once that is committed.
    note_head: Callable[[Head], None] = field(default=lambda _: None, compare=False, repr=False)


def this_person(settings: Settings, ticket: str | None = None, name: str | None = None) -> Actor:
    """The actor who gives this command: who is named, such as a visitor of the desk, or `schedule` for what the replay
    schedule does, or `worker` for what a worker learns of an environment; without a name, the person at this
    terminal."""
    actor = Actor(name or name_this_person(settings), ticket)
    path = find_heads_file(settings)
    return replace(actor, note_head=partial(note_head, path)) if path else actor


def name_this_person(settings: Settings) -> str:
    """The name of the person at this terminal: OATHBULK_ACTOR, or else the operating system's user."""
    return settings.actor or _system_user()


def _system_user() -> str:
    """The name of the operating system's user, or else their number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user who has no name in it.
        return f"uid {os.getuid()}"


# What the first line's hash covers in place of a line before it.
GENESIS = "0" * 64
# What a line's hash covers, beside the hash of the line before it.
FIELDS = ("id", "at", "actor", "action", "batch", "ticket", "facts")


def hash_line(former: str, line: Mapping[str, Any]) -> str:
    """Compute the hash of a line, in hexadecimal: over the hash of the line before (`former`), and the line, which has
    the FIELDS and no others."""
    fields = dict(line) | {"at": line["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{former}\n{text}".encode()).hexdigest()


def append(
    database: Database,
    connection: Connection,
    actor: Actor,
    action: Action,
    batch: str | None,
    facts: Mapping[str, Any],
) -> int:
    """Write a line, in the transaction of the command that it describes, so that neither is committed without the
    other, and return its number. What the command has changed in records before that becomes part of it.

    Its head is noted outside after the commit.
    """
    database.lock(connection, AUDIT_LOCK)
    newest = select(AuditLine.id, AuditLine.hash).order_by(AuditLine.id.desc()).limit(1)
    last = connection.execute(newest).one_or_none()
    at = _read_time(database, connection)
    line: dict[str, Any] = {
        "id": last.id + 1 if last else 1,
        "at": at,
        "actor": actor.name,
        "action": str(action),
        "batch": batch,
        "ticket": actor.ticket,
        "facts": dict(facts),
    }
    head = Head(line["id"], hash_line(last.hash if last else GENESIS, line), at)
    connection.execute(insert(AuditLine).values(line | {"hash": head.hash}))
    connection.execute(update(Change).where(text(UNNAMED)).values(audit_id=head.line))
    database.after_commit(connection, partial(actor.note_head, head))
    return head.line


def read(connection: Connection, batch: str | None = None) -> Generator[Row[*tuple[Any, ...]]]:
    """Read the lines in their order, of one batch or all."""
    lines = select(AuditLine.__table__).order_by(AuditLine.id)
    if batch is not None:
        lines = lines.where(AuditLine.batch == batch)
    with connection.execute(lines.execution_options(yield_per=1000)) as found:
        yield from found


def _read_time(database: Database, connection: Connection) -> datetime:
    """The database's time, without what is finer than milliseconds, which SQLite does not store."""
    at: datetime = connection.execute(select(database.now())).scalar_one()
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """The first line that is not what it was when it was written."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of the audit came to. `lines`: how many are unchanged, from the first on."""

    lines: int
    broken: BrokenLine | None = None


def check(connection: Connection) -> CheckResult:
    """Compute every hash again, up to the first that does not match.

    This does not notice a chain that was rewritten whole, or cut off at its end: `find_missing` compares with the heads
    that were noted outside.
    """
    former, sound = GENESIS, 0
    try:
        with closing(read(connection)) as lines:
            for line in lines:
                if (why := _find_fault(line, sound + 1, former)) is not None:
                    return CheckResult(sound, BrokenLine(sound + 1, why))
                former, sound = line.hash, line.id
    except (ValueError, TypeError):
        # SQLite stores any value in any column: a time may be no time, and facts no JSON.
        return CheckResult(sound, BrokenLine(sound + 1, "the line cannot be read"))
    return CheckResult(sound)


def _find_fault(line: Row[*tuple[Any, ...]], expected_id: int, former: str) -> str | None:
    """What is wrong with a line; None if nothing is."""
    if line.id != expected_id:
        return "the line is missing"
    if hash_line(former, {name: getattr(line, name) for name in FIELDS}) != line.hash:
        return "the line, or the one before it, was changed"
    return None


# A head as a person types it: HASH or ID:HASH.
_GIVEN_HEAD = re.compile(r"(?:([1-9][0-9]{0,17}):)?([0-9a-f]{64})")
# A line as `note_head` writes it: line, hash, time. No more characters than this are read as one: a device such as
# /dev/zero has no end.
_LONGEST_LINE = 200
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
            f"{given!r} is neither a head (HASH or ID:HASH, 64 hexadecimal digits) nor a readable file of heads "
            f"({getattr(error, 'strerror', None) or error})"
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
    heads = list[NotedHead]()
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), ""), start=1):
            match = _NOTED_LINE.fullmatch(line)
            if match is None:
                raise UnusableHead(f"line {number} of {path} is not a head (`ID HASH TIME`): fix or remove it")
            heads.append(NotedHead(match[2], int(match[1])))
    if not heads:
        raise UnusableHead(f"{path} holds no head: it is empty")
    return heads


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
