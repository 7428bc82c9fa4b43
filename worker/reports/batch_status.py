"""How a batch stands: its counts, its pace, and what will happen if nobody does anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from models.batch import BatchState
from models.record import FINAL
from worker.pace.memory import Hold, KnownPace
from worker.reports.stall import STILL_AFTER, Fleet, Stall, explain_stall

# What an address gets of the license's rate, unless it is listed under Rate Limits and Allowed IPs:
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
UNLISTED_PART = 0.35
# Who makes so much of what the license permits is held back by nothing else.
AT_CEILING_FROM = 0.8


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
    # Seconds for which nothing of its due work has moved; None where nothing is due, or it does not run.
    still_for: float | None = None
    fleet: Fleet = field(default_factory=Fleet)

    @property
    def stall(self) -> Stall | None:
        """Why due work stands still, if it has for long enough to call it that."""
        if self.still_for is None or self.still_for < STILL_AFTER:
            return None
        return explain_stall(replace(self.fleet, hold=str(self.hold) if self.hold else None))

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
    def hold(self) -> Hold | None:
        """While all workers of its license hold."""
        return self.license_pace.hold if self.license_pace else None

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
        is_at_ceiling = self.pace * self.requests_per_record > AT_CEILING_FROM * known.rate
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
            "eta_seconds": _round_or_none(self.eta_seconds),
            "eta_if_listed_seconds": _round_or_none(self.eta_if_listed_seconds),
            "ceiling": self.license_pace and self.license_pace.ceiling,
            "hold": self.hold.to_json() if self.hold else None,
            "share": self.license_pace.share if self.license_pace else 1.0,
            "window": self.window,
            "zone": self.zone,
            "closes_at": _iso_or_none(self.closes_at),
            "resumes_at": _iso_or_none(self.resumes_at),
            "still_for_seconds": _round_or_none(self.still_for),
            "stall": self.stall.to_json() if self.stall else None,
            "sick_processes": [process.name for process in self.fleet.sick],
            "created_at": self.created_at.isoformat(),
            "finished_at": _iso_or_none(self.finished_at),
        }


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _round_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
