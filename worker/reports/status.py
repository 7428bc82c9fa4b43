"""How a batch stands: its counts, its pace, and what will happen if nobody does anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from models.batch import Batch, BatchState
from models.record import FINAL, Record, Status
from worker.batches import UnknownBatch
from worker.database import Database
from worker.paces import KnownPace, read_pace

# Records settled in the last so many seconds tell the pace.
PACE_SECONDS = 30.0
# Fewer say nothing.
FEWEST = 5
# What an address gets of the license's rate, unless it is listed under Rate Limits and Allowed IPs:
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
UNLISTED_PART = 0.35
# Who makes so much of what the license permits is held back by nothing else.
NEAR = 0.8

# A license by the name and id of an environment.
License = Callable[[str, str], str]


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
    # What is known of the license's pace.
    license_pace: KnownPace | None = None
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

    @property
    def requests_per_record(self) -> float:
        """Of those that are settled."""
        return self.requests / max(self.total - self.left, 1)

    @property
    def eta_if_listed_seconds(self) -> float | None:
        """The same if the address of the workers were listed, and is not: an unlisted one gets a part of the license's
        rate. None where it is not PingOne's limit that decides."""
        known = self.license_pace
        if not self.eta_seconds or not known or not known.ceiling or not known.rate or known.fixed_rate:
            return None
        is_at_ceiling = self.pace * self.requests_per_record > NEAR * known.rate
        return self.eta_seconds * UNLISTED_PART if is_at_ceiling else None

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
            "eta_seconds": _rounded(self.eta_seconds),
            "eta_if_listed_seconds": _rounded(self.eta_if_listed_seconds),
            "ceiling": self.license_pace and self.license_pace.ceiling,
            "share": self.license_pace.share if self.license_pace else 1.0,
            "window": self.window,
            "zone": self.zone,
            "closes_at": _iso(self.closes_at),
            "resumes_at": _iso(self.resumes_at),
            "created_at": self.created_at.isoformat(),
            "finished_at": _iso(self.finished_at),
        }


def license_is_environment(_: str, environment_id: str) -> str:
    """As long as nothing else is configured."""
    return environment_id


def read_statuses(
    database: Database, name: str | None = None, license_of: License = license_is_environment
) -> list[BatchStatus]:
    """Of this batch, or of all, the latest first. Raises UnknownBatch."""
    statement = select(Batch.__table__).order_by(Batch.id.desc())
    if name is not None:
        statement = statement.where(Batch.name == name)
    with database.reading() as connection:
        batches = connection.execute(statement).all()
        if name is not None and not batches:
            raise UnknownBatch(f"no batch is named {name!r}: `oathbulk status` lists those that there are")
        return [
            replace(
                _read(database, connection, batch),
                license_pace=read_pace(connection, license_of(batch.environment, batch.environment_id)),
            )
            for batch in batches
        ]


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


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


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
