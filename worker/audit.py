"""The audit: who did what to which batch, when and on which ticket. Each line's hash covers the line before."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from models.audit import Action, AuditLine
from worker.config import Settings
from worker.database import AUDIT_LOCK, Database

# What the first line's hash covers in place of a line before it.
GENESIS = "0" * 64
# What a line's hash covers, beside the hash of the line before it.
HASHED = ("id", "at", "actor", "action", "batch", "ticket", "facts")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and the ticket that they act on."""

    name: str
    ticket: str | None = None


SCHEDULE = Actor("schedule")


@dataclass(frozen=True, slots=True)
class Broken:
    """The first line that is not what it was when it was written."""

    line: int
    why: str


def this_person(settings: Settings, ticket: str | None = None) -> Actor:
    """OATHBULK_ACTOR, or the user of the system."""
    return Actor(settings.actor or _system_user(), ticket)


def append(
    database: Database, connection: Connection, actor: Actor, action: Action, batch: str, facts: Mapping[str, Any]
) -> None:
    """One line, in the transaction of what it tells of: neither is there without the other."""
    database.lock(connection, AUDIT_LOCK)
    last = connection.execute(select(AuditLine.id, AuditLine.hash).order_by(AuditLine.id.desc()).limit(1)).one_or_none()
    at = connection.scalar(select(database.now()))
    assert at is not None, "the database tells the time"  # noqa: S101
    line = {
        "id": last.id + 1 if last else 1,
        "at": _to_the_millisecond(at),
        "actor": actor.name,
        "action": str(action),
        "batch": batch,
        "ticket": actor.ticket,
        "facts": dict(facts),
    }
    connection.execute(insert(AuditLine).values(line | {"hash": _hash(last.hash if last else GENESIS, line)}))


def read(connection: Connection, batch: str | None = None) -> Iterator[Row[*tuple[Any, ...]]]:
    """The lines in their order, of one batch or of all."""
    lines = select(AuditLine.__table__).order_by(AuditLine.id)
    if batch is not None:
        lines = lines.where(AuditLine.batch == batch)
    yield from connection.execution_options(yield_per=1000).execute(lines)


def check(connection: Connection) -> Broken | None:
    """Recompute every hash. Lines cut off at the end are not seen: compare the last hash with one noted elsewhere."""
    former, expected_id = GENESIS, 1
    try:
        for line in read(connection):
            if line.id != expected_id:
                return Broken(expected_id, "the line is missing")
            if _hash(former, {name: getattr(line, name) for name in HASHED}) != line.hash:
                return Broken(line.id, "the line, or the one before it, was changed")
            former, expected_id = line.hash, expected_id + 1
    except (ValueError, TypeError):
        # SQLite takes anything into any column: a time that is none, facts that are no JSON.
        return Broken(expected_id, "the line cannot be read")
    return None


def _hash(former: str, line: Mapping[str, Any]) -> str:
    fields = dict(line) | {"at": line["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{former}\n{text}".encode()).hexdigest()


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user whom its system does not know.
        return f"uid {os.getuid()}"


def _to_the_millisecond(at: datetime) -> datetime:
    """What both databases keep."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
