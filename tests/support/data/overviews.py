"""What the page of a batch tells beside its status, for tests, without a database: each changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from support.data.histories import make_row
from worker.reports.overview import BatchOrigin, Command, Overview, Pause, Timeline

LOADED_AT = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """The time so many minutes after the batch was loaded."""
    return LOADED_AT + timedelta(minutes=number)


def make_command(at: datetime, actor: str, action: str, ticket: str | None, facts: dict[str, Any]) -> Command:
    """A line of the audit."""
    return make_row({"at": at, "actor": actor, "action": action, "ticket": ticket, "facts": facts})


def make_overview(**fields: Any) -> Overview:
    """A batch of which three tokens are active."""
    overview = Overview(
        timeline=make_timeline((1, 2, 3)),
        origin=BatchOrigin("shipment.csv", "ab" * 32, "default", "tenant-1", LOADED_AT, "alice", "CHG-1"),
        commands=(make_command(LOADED_AT, "alice", "load", "CHG-1", {"total": 4, "canary": None}),),
    )
    return replace(overview, **fields)


def make_timeline(active_at: tuple[float, ...], *pauses: Pause) -> Timeline:
    """Tokens that became active so many minutes after the batch was loaded."""
    moments = tuple((minutes(at), count) for count, at in enumerate(active_at, 1))
    return Timeline(LOADED_AT, minutes(max(active_at, default=1)), moments, pauses)
