"""A claim: the right to work on one record, and what the work needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from models.reason import Reason
from models.record import OtpState, Record
from worker.decisions import OtpProgress, Progress


@dataclass(frozen=True, slots=True)
class Claim:
    """Valid until the lease ends or is taken away."""

    record_id: int
    batch_id: int
    row_number: int
    lease_id: str
    # time.monotonic() before the claim: deadlines count from here, so that they end before the lease does.
    started: float
    user_id: str
    device_id: str
    otps: bytes = field(repr=False)
    progress: Progress
    # Claim and sending were one statement: the first OTP is marked as sent already.
    is_sending: bool


# The columns that a claim is made of.
CLAIMED = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.user_id,
    Record.device_id,
    Record.otps,
    Record.has_second_otp,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.verdict,
    Record.not_found,
    Record.attempts,
    Record.attempts_forgiven,
)


def from_row(row: Row[Any], lease_id: str, started: float, jitter: float, *, is_sending: bool) -> Claim:
    """From CLAIMED and `is_stale`."""
    second = OtpProgress(OtpState(row.otp2_state), row.otp2_posts) if row.has_second_otp else None
    progress = Progress(
        first=OtpProgress(OtpState(row.otp1_state), row.otp1_posts),
        second=second,
        attempts=row.attempts - row.attempts_forgiven,
        verdict=Reason(row.verdict) if row.verdict else None,
        not_found=row.not_found,
        is_stale=bool(row.is_stale),
        jitter=jitter,
    )
    return Claim(
        record_id=row.id,
        batch_id=row.batch_id,
        row_number=row.row_number,
        lease_id=lease_id,
        started=started,
        user_id=row.user_id,
        device_id=row.device_id,
        otps=row.otps,
        progress=progress,
        is_sending=is_sending,
    )
