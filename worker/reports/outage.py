"""Since when PingOne has not answered a batch, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from models.batch import BatchState
from models.reason import PauseReason
from worker.batches.judgement import find_silence, was_answered
from worker.database.engine import Database
from worker.rules.breaker import Thresholds


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage that a batch has met. `since`: when the first attempt without an answer ended; None where none is
    known, as when only its preparation got no answer. `next_try_at`: when PingOne is tried again; None: it is now.
    `is_overdue`: that time is past, and nobody has tried."""

    since: datetime | None
    next_try_at: datetime | None
    is_overdue: bool = False

    def to_json(self) -> dict[str, Any]:
        """The outage as `oathbulk status --json` prints it."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "next_try_at": self.next_try_at.isoformat() if self.next_try_at else None,
        }


def read_outage(database: Database, connection: Connection, batch: Row[*tuple[Any, ...]]) -> Outage | None:
    """Read the outage of a batch that is paused for one, or tries whether it is over; None if PingOne answers."""
    is_paused = batch.state == BatchState.PAUSED and batch.reason == PauseReason.OUTAGE
    if not is_paused and not (batch.state == BatchState.RUNNING and batch.outages):
        return None
    since = find_silence(connection, batch)
    if not is_paused:
        # The count of outages is set back at the next tick only.
        return None if was_answered(connection, batch, Thresholds()) else Outage(since, None)
    now: datetime = connection.execute(select(database.now())).scalar_one()
    return Outage(since, batch.probe_at, is_overdue=batch.probe_at is not None and batch.probe_at <= now)
