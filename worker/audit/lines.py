"""Writes a line of the audit for each command, and reads lines back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select

from models.audit import Action, AuditLine
from worker.audit.actors import Actor
from worker.audit.heads import Head
from worker.database.engine import AUDIT_LOCK, Database

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


def append(
    database: Database,
    connection: Connection,
    actor: Actor,
    action: Action,
    batch: str | None,
    facts: Mapping[str, Any],
) -> None:
    """Write a line, in the transaction of the command that it describes, so that neither is committed without the
    other.

    Its head is noted outside after the commit. Raises ConfigError if the audit key cannot be used.
    """
    database.lock(connection, AUDIT_LOCK)
    newest = select(AuditLine.id, AuditLine.hash, AuditLine.mac).order_by(AuditLine.id.desc()).limit(1)
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
    content = encode_content(last.hash if last else GENESIS, line)
    authenticated_line = last.id if last and last.mac is not None else None
    mac = actor.protection.sign(content, authenticated_line=authenticated_line)
    head = Head(line["id"], hash_content(content), at)
    connection.execute(insert(AuditLine).values(line | {"hash": head.hash, "mac": mac}))
    database.after_commit(connection, actor.protection.note_heads, head)


def read(connection: Connection, batch: str | None = None) -> Generator[Row[*tuple[Any, ...]]]:
    """Read the lines in their order, of one batch or all."""
    lines = select(AuditLine.__table__).order_by(AuditLine.id)
    if batch is not None:
        lines = lines.where(AuditLine.batch == batch)
    with connection.execute(lines.execution_options(yield_per=1000)) as found:
        yield from found


def has_authenticated_line(connection: Connection) -> bool:
    """Whether any line has an HMAC."""
    return bool(connection.scalar(select(exists().where(AuditLine.mac.is_not(None)))))


def _read_time(database: Database, connection: Connection) -> datetime:
    """The database's time, without what is finer than milliseconds, which SQLite does not store."""
    at: datetime = connection.execute(select(database.now())).scalar_one()
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
