"""What the page of a batch tells beside its status, for tests, without a database: each changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from models.reason import CURES, Reason
from models.row_fault import FAULT_CURES, RowFault
from worker.reports.audited import Command, Origin
from worker.reports.overview import Overview, ReasonGroup, RowCounts
from worker.reports.timeline import Pause, Timeline

LOADED_AT = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """The time so many minutes after the batch was loaded."""
    return LOADED_AT + timedelta(minutes=number)


def make_overview(**fields: Any) -> Overview:
    """A batch of five rows: three tokens are active, one was given up, one row was refused."""
    overview = Overview(
        made_at=minutes(30),
        counts=RowCounts(active=3, dead_letter=1, refused=1),
        dead_letters=(ReasonGroup(Reason.LOCKED, 1, CURES[Reason.LOCKED]),),
        refused=(ReasonGroup(RowFault.OTPS_UNFIT, 1, FAULT_CURES[RowFault.OTPS_UNFIT]),),
        timeline=make_timeline((1, 2, 3)),
        origin=Origin("shipment.csv", "ab" * 32, "default", "tenant-1", LOADED_AT, "alice", "CHG-1"),
        commands=(Command(LOADED_AT, "alice", "load", "CHG-1", {"total": 4, "canary": None}),),
    )
    return replace(overview, **fields)


def make_timeline(active_at: tuple[float, ...], *pauses: Pause) -> Timeline:
    """Tokens that became active so many minutes after the batch was loaded."""
    moments = tuple((minutes(at), count) for count, at in enumerate(active_at, 1))
    return Timeline(LOADED_AT, minutes(max(active_at, default=1)), moments, pauses)
