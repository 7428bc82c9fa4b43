"""How batches stand, for tests, without a database: each changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from models.record_states import Status
from worker.fleet import KnownProcess
from worker.reports.facts import BatchStatus
from worker.reports.stall import Fleet

LOADED = datetime(2024, 11, 24, 12, 0, tzinfo=UTC)
NOTHING = {str(status): 0 for status in Status}
FLEET = Fleet([KnownProcess("host:1", True, LOADED, 1.0, None, None, None)])


def batch(state: str = "running", pace: float = 0.0, **counts: int) -> BatchStatus:
    return BatchStatus(
        name="pallet-7",
        environment="default",
        state=state,
        reason=None,
        detail=None,
        total=sum(counts.values()),
        rows_refused=0,
        counts=NOTHING | counts,
        dead_letters={},
        resynced=0,
        attempts=0,
        otp_posts=0,
        requests=0,
        rate_limited=0,
        created_at=LOADED,
        finished_at=None,
        pace=pace,
        next_due_at=None,
        fleet=FLEET,
    )


RUNNING = batch(pace=10.0, pending=500, queued=60, activating=40, active=400)
CLOSES = datetime(2026, 11, 26, 4, 30, tzinfo=UTC)
PAUSED = replace(
    batch("paused", pending=9, active=1), reason="credentials", detail="PingOne refused the credentials. Check them."
)
CANCELLED = batch("cancelled", cancelled=6, active=4)
FINISHED = replace(batch("finished", active=10), finished_at=LOADED + timedelta(minutes=1, seconds=35))
SOME_LEFT = replace(
    batch("finished", active=7, dead_letter=3),
    finished_at=LOADED + timedelta(hours=2, minutes=5),
    dead_letters={"locked": 1, "invalid_otp": 2},
)
