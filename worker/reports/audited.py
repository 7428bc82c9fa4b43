"""Reads from the audit where a batch comes from, and who commanded what since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from models.audit import Action
from worker import audit


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the audit about a batch."""

    at: datetime
    actor: str
    action: str
    ticket: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a batch comes from: its file and its list of who gets what, if there was one, each with the SHA-256 of its
    bytes; who loaded it, when, and on which ticket. What the audit tells is None where it has no line of the load."""

    file: str
    sha256: str | None
    environment: str
    environment_id: str
    loaded_at: datetime
    loaded_by: str | None
    ticket: str | None
    list_file: str | None = None
    list_sha256: str | None = None


def read_commands(connection: Connection, name: str) -> tuple[Command, ...]:
    """Read what was commanded for the batch, the oldest first."""
    return tuple(
        Command(line.at, line.actor, line.action, line.ticket, dict(line.facts))
        for line in audit.read(connection, name)
    )


def describe_origin(batch: Row[*tuple[Any, ...]], commands: Iterable[Command]) -> Origin:
    """Say where the batch comes from. `commands`: those for it, with that of its load."""
    load = next((each for each in commands if each.action == Action.LOAD), None)
    facts = load.facts if load else {}
    sha256 = facts.get("sha256")
    if (batch.may_pair or batch.may_import) and sha256 == batch.file_sha256:
        # A line of before, in which files and switches have one digest together, with which no file can be compared.
        sha256 = None
    return Origin(
        file=batch.file,
        sha256=sha256,
        environment=batch.environment,
        environment_id=batch.environment_id,
        loaded_at=batch.created_at,
        loaded_by=load.actor if load else None,
        ticket=load.ticket if load else None,
        list_file=facts.get("list_file"),
        list_sha256=facts.get("list_sha256"),
    )
