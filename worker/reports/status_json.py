"""The status of a batch as JSON, for scripts; no key goes away."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from worker.reports.batch_status import BatchStatus


def make_status_json(status: BatchStatus) -> dict[str, Any]:
    """The status as `oathbulk status --json` prints it, with its times and what was found out about the fleet."""
    return _make_counts(status) | {
        "pace": round(status.pace, 2),
        "eta_seconds": _round_or_none(status.eta_seconds),
        "eta_if_listed_seconds": _round_or_none(status.eta_if_listed_seconds),
        "ceiling": status.license_pace and status.license_pace.ceiling,
        "hold": status.hold.to_json() if status.hold else None,
        "outage": status.outage.to_json() if status.outage else None,
        "share": status.license_pace.share if status.license_pace else 1.0,
        "window": status.hours,
        "zone": status.zone,
        "closes_at": _iso_or_none(status.closes_at),
        "resumes_at": _iso_or_none(status.resumes_at),
        "still_for_seconds": _round_or_none(status.still_for),
        "stall": status.stall.to_json() if status.stall else None,
        "resync_on_first_call": status.needs_flag,
        "sick_processes": [process.name for process in status.fleet.sick],
        "created_at": status.created_at.isoformat(),
        "finished_at": _iso_or_none(status.finished_at),
        "purged_at": _iso_or_none(status.purged_at),
    }


def _make_counts(status: BatchStatus) -> dict[str, Any]:
    return {
        "batch": status.name,
        "environment": status.environment,
        "state": status.state,
        "reason": status.reason,
        "detail": status.detail,
        "total": status.total,
        "rows": status.rows,
        "rows_refused": status.rows_refused,
        "refused": status.refused,
        "counts": status.counts,
        "resynced": status.resynced,
        "unproved": status.unproved,
        "imported": status.imported,
        "paired": status.paired,
        "waiting": status.waiting,
        "preparation_pace": round(status.preparation.pace, 2),
        "attempts": status.attempts,
        "otp_posts": status.otp_posts,
        "requests": status.requests,
        "rate_limited": status.rate_limited,
        "dead_letters": status.dead_letters,
        "tokens_active": status.tokens_active,
        "tokens_left": status.tokens_left,
    }


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _round_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
