"""How a batch stands: its counts, its pace, and what will happen if nobody does anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from models.batch import Batch, BatchState
from models.record import FINAL, Record, Status
from worker.batches import UnknownBatch
from worker.database import Database

# Records settled in the last so many seconds tell the pace.
PACE_SECONDS = 30.0
# Fewer say nothing.
FEWEST = 5


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """All counts are of records, but for `rows_refused` (rows of the file that never became one)."""

    name: str
    environment: str
    state: str
    reason: str | None
    detail: str | None
    total: int
    rows_refused: int
    counts: dict[str, int]
    dead_letters: dict[str, int]
    resynced: int
    attempts: int
    otp_posts: int
    requests: int
    rate_limited: int
    created_at: datetime
    finished_at: datetime | None
    # Records settled a second, lately; and when the next pending one is due.
    pace: float
    next_due_at: datetime | None
    # Its daily window and the time zone of that; while it runs, when the window closes; while it is paused for its
    # window or a quota, when it goes on by itself.
    window: str | None = None
    zone: str | None = None
    closes_at: datetime | None = None
    resumes_at: datetime | None = None

    @property
    def left(self) -> int:
        return self.total - sum(self.counts[status] for status in FINAL)

    @property
    def eta_seconds(self) -> float | None:
        """Until the last record is settled at the present pace; None while there is none, or it is paused."""
        if not self.left:
            return 0.0
        return self.left / self.pace if self.pace and self.state != BatchState.PAUSED else None

    def to_json(self) -> dict[str, Any]:
        return {
            "batch": self.name,
            "environment": self.environment,
            "state": self.state,
            "reason": self.reason,
            "detail": self.detail,
            "total": self.total,
            "rows_refused": self.rows_refused,
            "counts": self.counts,
            "resynced": self.resynced,
            "attempts": self.attempts,
            "otp_posts": self.otp_posts,
            "requests": self.requests,
            "rate_limited": self.rate_limited,
            "dead_letters": self.dead_letters,
            "pace": round(self.pace, 2),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds),
            "window": self.window,
            "zone": self.zone,
            "closes_at": _iso(self.closes_at),
            "resumes_at": _iso(self.resumes_at),
            "created_at": self.created_at.isoformat(),
            "finished_at": _iso(self.finished_at),
        }


def read_statuses(database: Database, name: str | None = None) -> list[BatchStatus]:
    """Of this batch, or of all, the latest first. Raises UnknownBatch."""
    statement = select(Batch.__table__).order_by(Batch.id.desc())
    if name is not None:
        statement = statement.where(Batch.name == name)
    with database.reading() as connection:
        batches = connection.execute(statement).all()
        if name is not None and not batches:
            raise UnknownBatch(f"no batch is named {name!r}: `oathbulk status` lists those that there are")
        return [_read(database, connection, batch) for batch in batches]


def _read(database: Database, connection: Connection, batch: Row[*tuple[Any, ...]]) -> BatchStatus:
    groups = connection.execute(_groups(batch.id)).all()
    counts = {str(status): 0 for status in Status}
    for group in groups:
        counts[group.status] += group.records
    is_finished = sum(counts[status] for status in FINAL) == batch.total
    finalized_at = [group.finalized_at for group in groups if group.finalized_at]
    return BatchStatus(
        name=batch.name,
        environment=batch.environment,
        state="finished" if is_finished and batch.state != BatchState.CANCELLED else batch.state,
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
        counts=counts,
        dead_letters={group.reason: group.records for group in groups if group.status == Status.DEAD_LETTER},
        resynced=sum(group.resynced for group in groups),
        attempts=sum(group.attempts for group in groups),
        otp_posts=sum(group.otp_posts for group in groups),
        requests=sum(group.requests for group in groups),
        rate_limited=sum(group.rate_limited for group in groups),
        created_at=batch.created_at,
        finished_at=max(finalized_at) if is_finished and finalized_at else None,
        pace=_pace(database, connection, batch.id),
        next_due_at=min((group.next_due_at for group in groups if group.status == Status.PENDING), default=None),
        window=batch.daily_window,
        zone=batch.zone,
        closes_at=batch.closes_at if batch.state == BatchState.RUNNING else None,
        resumes_at=batch.resumes_at,
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _pace(database: Database, connection: Connection, batch_id: int) -> float:
    """Over the last seconds, from the first record that was settled in them."""
    lately = select(func.count(), func.min(Record.finalized_at), database.now()).where(
        Record.batch_id == batch_id, Record.finalized_at > database.now(-PACE_SECONDS)
    )
    settled, since, now = connection.execute(lately).one()
    if settled < FEWEST:
        return 0.0
    return float(settled / max((now - since).total_seconds(), 1.0))


def _groups(batch_id: int) -> Select[*tuple[Any, ...]]:
    """One row a status and reason."""
    return (
        select(
            Record.status,
            Record.reason,
            func.count().label("records"),
            func.count().filter(Record.resynced).label("resynced"),
            func.coalesce(func.sum(Record.attempts), 0).label("attempts"),
            func.coalesce(func.sum(Record.otp1_posts + Record.otp2_posts), 0).label("otp_posts"),
            func.coalesce(func.sum(Record.requests), 0).label("requests"),
            func.coalesce(func.sum(Record.rate_limited), 0).label("rate_limited"),
            func.max(Record.finalized_at).label("finalized_at"),
            func.min(Record.scheduled_at).label("next_due_at"),
        )
        .where(Record.batch_id == batch_id)
        .group_by(Record.status, Record.reason)
    )
