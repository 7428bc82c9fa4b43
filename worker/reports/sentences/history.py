"""What is known of a record and of each attempt on it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from worker.observability.counting import count_things
from worker.observability.escaping import escape_line
from worker.reports.token_history import PastAttempt, PastRecord


def format_moment(at: datetime, zone: str = " UTC") -> str:
    """Write a time for a person, to the second: `2026-11-25 21:00:05 UTC`. `zone` is left out where it stands above."""
    return f"{at:%Y-%m-%d %H:%M:%S}{zone}"


def describe_origin(record: PastRecord) -> str:
    """Say where a record stands: its batch, its row, and the file."""
    return escape_line(f"Batch {record.batch.name}, row {record.row_number} of {record.batch.file} (#{record.id})")


def list_facts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List how a record stands, whose it is, and what became of its OTPs."""
    finalized = f" since {format_moment(record.finalized_at)}" if record.finalized_at else ""
    reason = f" ({record.reason})" if record.reason else ""
    yield "status", f"{record.status}{reason}{finalized}"
    if record.reason and record.meaning:
        yield "meaning", record.meaning
    yield "user", record.user_id or "not known yet"
    made = " (made by this batch)" if record.is_device_made else ""
    # Pairs, since a column of the file may have the name of one of ours.
    kept = [
        ("username", record.username),
        ("email", record.email),
        ("external_id", record.external_id),
        ("device", f"{record.device_id}{made}" if record.device_id else "none yet"),
        ("lot", record.lot),
        *(record.extra or {}).items(),
    ]
    yield from ((label, str(value)) for label, value in kept if value)
    otps = record.describe_otps()
    yield from (("OTPs", otps["source"]), ("OTP 1", otps["otp1"]), ("OTP 2", otps["otp2"]))


def list_attempts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List each attempt in one line."""
    if not record.attempts:
        yield "attempts", "none yet"
    for place, attempt in enumerate(record.attempts):
        yield "" if place else "attempts", describe_attempt(attempt)


def describe_attempt(attempt: PastAttempt) -> str:
    """Describe an attempt in one line: number, time, outcome, PingOne's last answer, and what it cost."""
    codes = "/".join(filter(None, (attempt.code, attempt.detail_code)))
    answer = f"HTTP {attempt.http_status} {codes}".strip() if attempt.http_status else codes
    parts = [
        f"{attempt.number}. {format_moment(attempt.ended_at)}",
        attempt.outcome + (f" ({attempt.reason})" if attempt.reason else ""),
        answer,
        count_things(attempt.requests, "request"),
        count_things(attempt.otp_posts, "OTP") + " posted",
        # Without a space, so that no line ends between the name and the id.
        attempt.pingone_error_id and f"error_id={attempt.pingone_error_id}",
        attempt.correlation_id and f"correlation_id={attempt.correlation_id}",
    ]
    return ", ".join(filter(None, parts))
