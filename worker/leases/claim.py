"""What a worker gets when it claims a record: the right to work on it, and all that the work needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import InstrumentedAttribute

from models.reason import Reason
from models.record import Record
from models.record_states import NOBODY, OtpState, PairingState
from worker.rules.ages import count_ago
from worker.rules.progress import OtpProgress, PairingProgress, Progress


@dataclass(frozen=True, slots=True)
class Claim:
    """One record in the hands of one worker, until its lease runs out or is taken away."""

    record_id: int
    batch_id: int
    row_number: int
    lease_id: str
    # `boot_time` before the claim was written, in seconds. Deadlines count from here, so that they end before the
    # lease.
    started: float
    serial_number: str
    user_id: str
    # Empty where the record has no device yet.
    device_id: str
    otps: bytes = field(repr=False)
    progress: Progress
    # Whether the claim has marked OTP 1 as sent too, in the same statement.
    is_otp1_marked: bool
    # Whether the claim has marked the pairing as sent.
    is_pairing_marked: bool = False

    def may_have_changed(self, pairing: PairingProgress) -> bool:
        """Whether the database may have something else of the pairing: where it may be made, it may be marked too."""
        return pairing.is_allowed or pairing != self.progress.pairing

    def count_spent_posts(self, progress: Progress, *, leaves_pending: bool) -> int:
        """How many OTPs this attempt has spent, if it ends with this progress. An OTP 1 after which PingOne asked for
        OTP 2 is counted together with that one, or when the record becomes final."""
        before = self.progress.posts - int(self.is_otp1_marked) - int(self.progress.is_half_done)
        return progress.posts - int(leaves_pending and progress.is_half_done) - before


# The columns that a claim needs of a fresh record: one of which nothing is known but its file's row, and whose first
# OTP is marked as sent with the claim. No more of them, since each column costs as much as a parameter does.
FRESH_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.device_id,
    Record.otps,
    Record.has_second_otp,
    Record.next_counter,
    Record.attempts,
    Record.attempts_forgiven,
)
# The columns that a claim needs of any other record.
ALL_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    *FRESH_COLUMNS,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.verdict,
    Record.not_found,
    Record.pairing,
    Record.pairings,
    Record.is_device_made,
    Record.owner_id,
    Record.pairing_began_at,
    Record.otp_sent_at,
)


def claim_fresh_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of a fresh record, from a row with FRESH_COLUMNS."""
    second = OtpProgress() if row.has_second_otp else None
    first = OtpProgress(OtpState.SENT, 1)
    pairing = PairingProgress(device_id=row.device_id)
    progress = Progress(first, second, _attempts(row), next_counter=row.next_counter, pairing=pairing, jitter=jitter)
    return _claim(row, lease_id, started, progress, is_otp1_marked=True)


def claim_any_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of any other record, from a row with ALL_COLUMNS, `is_stale`, `may_pair` and `claimed_at`."""
    second = OtpProgress(OtpState(row.otp2_state), row.otp2_posts) if row.has_second_otp else None
    progress = Progress(
        first=OtpProgress(OtpState(row.otp1_state), row.otp1_posts),
        second=second,
        attempts=_attempts(row),
        verdict=Reason(row.verdict) if row.verdict else None,
        not_found=row.not_found,
        is_stale=row.is_stale,
        next_counter=row.next_counter,
        pairing=PairingProgress(
            state=_read_pairing(row),
            device_id=row.device_id,
            pairings=row.pairings,
            is_made=row.is_device_made,
            was_free=row.owner_id == NOBODY,
            is_allowed=row.may_pair,
            sent_ago=count_ago(row.claimed_at, row.otp_sent_at, row.pairing_began_at),
        ),
        jitter=jitter,
    )
    return _claim(row, lease_id, started, progress, is_otp1_marked=False)


def claim_unpaired_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of a fresh record without a device, whose pairing is marked as sent, from a row as `claim_any_row`
    takes it."""
    return replace(claim_any_row(row, lease_id, started, jitter), is_pairing_marked=True)


def _read_pairing(row: Row[Any]) -> PairingState:
    """The state of a pairing. A device that the inventory showed may be ACTIVE already, as one may be that was found
    after a request of unknown fate: it is read before an OTP is spent on it."""
    if not row.device_id or row.pairing == PairingState.SENT:
        return PairingState(row.pairing)
    was_found = row.owner_id and row.pairing == PairingState.UNSENT and not row.otp1_posts
    return PairingState.SENT if was_found else PairingState.PAIRED


def _attempts(row: Row[Any]) -> int:
    """Counted attempts since the last replay, with this one."""
    attempts: int = row.attempts - row.attempts_forgiven
    return attempts


def _claim(row: Row[Any], lease_id: str, started: float, progress: Progress, *, is_otp1_marked: bool) -> Claim:
    return Claim(
        record_id=row.id,
        batch_id=row.batch_id,
        row_number=row.row_number,
        serial_number=row.serial_number,
        lease_id=lease_id,
        started=started,
        user_id=row.user_id,
        device_id=row.device_id,
        otps=row.otps,
        progress=progress,
        is_otp1_marked=is_otp1_marked,
    )
