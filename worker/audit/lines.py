"""Lines of the audit are written, one a command, and read."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select

from models.audit import Action, AuditLine
from worker.audit.actors import Actor
from worker.audit.chain import GENESIS, covered, hash_of
from worker.audit.heads import Head
from worker.database.engine import AUDIT_LOCK, Database


def append(
    database: Database,
    connection: Connection,
    actor: Actor,
    action: Action,
    batch: str | None,
    facts: Mapping[str, Any],
) -> None:
    """One line, in the transaction of what it tells of: neither is there without the other. Its head is noted outside
    once that is committed. Raises ConfigError where the audit key cannot be used."""
    database.lock(connection, AUDIT_LOCK)
    newest = select(AuditLine.id, AuditLine.hash, AuditLine.mac).order_by(AuditLine.id.desc()).limit(1)
    last = connection.execute(newest).one_or_none()
    at = connection.scalar(select(database.now()))
    assert at is not None, "the database tells the time"  # noqa: S101
    number, at = last.id + 1 if last else 1, _to_the_millisecond(at)
    line = {
        "id": number,
        "at": at,
        "actor": actor.name,
        "action": str(action),
        "batch": batch,
        "ticket": actor.ticket,
        "facts": dict(facts),
    }
    content = covered(last.hash if last else GENESIS, line)
    authenticated_line = last.id if last and last.mac is not None else None
    mac = actor.protection.sign(content, authenticated_line=authenticated_line)
    head = Head(number, hash_of(content), at, mac)
    connection.execute(insert(AuditLine).values(line | {"hash": head.hash, "mac": head.mac}))
    database.after_commit(connection, actor.protection.note, head)


def read(connection: Connection, batch: str | None = None) -> Generator[Row[*tuple[Any, ...]]]:
    """The lines in their order, of one batch or of all."""
    lines = select(AuditLine.__table__).order_by(AuditLine.id)
    if batch is not None:
        lines = lines.where(AuditLine.batch == batch)
    with connection.execute(lines.execution_options(yield_per=1000)) as found:
        yield from found


def has_authenticated_line(connection: Connection) -> bool:
    return bool(connection.scalar(select(exists().where(AuditLine.mac.is_not(None)))))


def _to_the_millisecond(at: datetime) -> datetime:
    """What both databases keep."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
