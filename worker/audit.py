"""The audit: who gave which command for which batch, when, and on which ticket. A line that is changed later is
detected.

The lines are a hash chain: each line's hash covers the hash of the line before. Somebody who controls the database can
rewrite the whole chain. So the hash of each new line, the audit's head, is also written to a file outside the database.
Ship that file, like any log, to a place where they cannot write: it then reveals a rewritten chain. Nothing in the file
is secret.
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

# The default file for heads, in the home of the embedded stack.
HEADS_FILE = "audit.heads"

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The number, hash and time of a line of the audit, taken when it was the last line."""

    line: int
    hash: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.line} {self.hash} {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}"


def find_heads_file(settings: Settings) -> Path | None:
    """Find the file for heads: OATHBULK_AUDIT_HEAD, or by default a file in the home of the embedded stack; None for
    other databases."""
    if settings.audit_head is None and settings.is_embedded_database:
        return settings.home.absolute() / HEADS_FILE
    return Path(settings.audit_head) if settings.audit_head else None


def note_head(path: Path, head: Head) -> None:
    """Append a head to the file. Logs a failure instead of raising it, since the line of the audit is already
    committed."""
    # One write, so that two processes do not mix their lines. A pipe without a reader must not block the command.
    flags, line = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, f"{head}\n".encode()
    try:
        with os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0) as file:
            if (file.write(line) or 0) < len(line):
                raise OSError("only a part of it was written")
            os.fsync(file.fileno())
    except OSError as error:
        log.warning(
            escape_line(
                f"The head of the audit (line {head.line}) could not be saved in {path} ({error}). The command is "
                f"done, and the next line's head will be saved. Fix the file, or set OATHBULK_AUDIT_HEAD to another"
            )
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives a command, the ticket that it refers to, and where to write the head of its audit line."""

    name: str
    ticket: str | None = None
    # Called with the head of each line after the commit.
    note_head: Callable[[Head], None] = field(default=lambda _: None, compare=False, repr=False)


def this_person(settings: Settings, ticket: str | None = None, name: str | None = None) -> Actor:
    """Make the actor of a command. `name`: a given name, such as that of a visitor to the desk; `schedule` for the
    replay schedule; or `worker` for what a worker learns about an environment. Without a name, the actor is the person
    at this terminal."""
    actor = Actor(name or name_this_person(settings), ticket)
    path = find_heads_file(settings)
    return replace(actor, note_head=partial(note_head, path)) if path else actor


def name_this_person(settings: Settings) -> str:
    """Name the person at this terminal: OATHBULK_ACTOR, or else the operating system's user."""
    return settings.actor or _system_user()


def _system_user() -> str:
    """Name the operating system's user, or give their number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        return f"uid {os.getuid()}"


# What the first line's hash covers instead of an earlier hash.
GENESIS = "0" * 64
# What a line's hash covers, besides the hash of the line before it.
FIELDS = ("id", "at", "actor", "action", "batch", "ticket", "facts")


def hash_line(former: str, line: Mapping[str, Any]) -> str:
    """Compute the hash of a line, in hexadecimal, over the hash of the line before (`former`) and the line, which has
    exactly the FIELDS."""
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
    """Write a line and return its number. It is written in the transaction of the command that it describes, so that
    neither is committed without the other. The line includes the changes that the command has made to records so far.

    The head is written to the file outside the database after the commit.
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
    """Read the lines of one batch, or all lines, in order."""
    lines = select(AuditLine.__table__).order_by(AuditLine.id)
    if batch is not None:
        lines = lines.where(AuditLine.batch == batch)
    with connection.execute(lines.execution_options(yield_per=1000)) as found:
        yield from found


def _read_time(database: Database, connection: Connection) -> datetime:
    """Read the database's time, cut to milliseconds, since SQLite stores nothing finer."""
    at: datetime = connection.execute(select(database.now())).scalar_one()
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """The first line that differs from what was written."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check of the audit. `lines`: how many are unchanged, counted from the first."""

    lines: int
    broken: BrokenLine | None = None


def check(connection: Connection) -> CheckResult:
    """Recompute every hash, up to the first that does not match.

    This does not detect a chain that was rewritten completely or cut off at its end: `find_missing` compares it with
    the heads that were written outside the database.
    """
    former, sound = GENESIS, 0
    try:
        with closing(read(connection)) as lines:
            for line in lines:
                if (why := _find_fault(line, sound + 1, former)) is not None:
                    return CheckResult(sound, BrokenLine(sound + 1, why))
                former, sound = line.hash, line.id
    except (ValueError, TypeError):
        # SQLite stores any value in any column, so a time may not be a time, and facts may not be JSON.
        return CheckResult(sound, BrokenLine(sound + 1, "the line cannot be read"))
    return CheckResult(sound)


def _find_fault(line: Row[*tuple[Any, ...]], expected_id: int, former: str) -> str | None:
    """Say what is wrong with a line; None if nothing is."""
    if line.id != expected_id:
        return "the line is missing"
    if hash_line(former, {name: getattr(line, name) for name in FIELDS}) != line.hash:
        return "the line, or the one before it, was changed"
    return None


# A head as a person types it: HASH or ID:HASH.
_GIVEN_HEAD = re.compile(r"(?:([1-9][0-9]{0,17}):)?([0-9a-f]{64})")
# A line as `note_head` writes it: line, hash, time. A line is read only up to this length, since a device such as
# /dev/zero has no end.
_LONGEST_LINE = 200
_NOTED_LINE = re.compile(r"([1-9][0-9]{0,17}) ([0-9a-f]{64}) \S+\n?")


class UnusableHead(Exception):
    """The given text is not a head; the message says what a head looks like."""


@dataclass(frozen=True, slots=True)
class NotedHead:
    """A head that was written outside the database; `line` is None if only the hash was written."""

    hash: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class MissingHead:
    """A head that was written outside the database but is missing from the audit, and why."""

    head: NotedHead
    why: str


def read_heads(given: str) -> list[NotedHead]:
    """Read heads from a hash, from ID:HASH, or from the path of a file of heads. Raises UnusableHead."""
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
    """Read the heads in this file; none if the file does not exist, or is a pipe. Raises UnusableHead."""
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
    """Find the heads that are missing from the audit. Does not check whether its lines are unchanged; `check` does
    that."""
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
    return f"line {head.line} was rewritten after its head was saved"
