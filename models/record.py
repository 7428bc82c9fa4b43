"""A record: one token of a batch, and where we are with it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ColumnElement, ForeignKey, Index, String, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of
from models.encrypted import Encrypted


class Status(StrEnum):
    PENDING = "pending"
    QUEUED = "queued"
    ACTIVATING = "activating"
    ACTIVE = "active"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED})

# Every arrow that a status may take. Only `worker.leases` writes one, and asks this table first.
TRANSITIONS = frozenset(
    {
        # It is due, its batch runs, and the window has room for it.
        (Status.PENDING, Status.QUEUED),
        # A worker takes it, under a new lease.
        (Status.QUEUED, Status.ACTIVATING),
        # No slot is near, publishing failed, the batch was paused, or the message was lost: no attempt counted.
        (Status.QUEUED, Status.PENDING),
        # PingOne says ACTIVE.
        (Status.ACTIVATING, Status.ACTIVE),
        # Not settled now; it is due again at `scheduled_at`. Or its lease ran out, because the worker died.
        (Status.ACTIVATING, Status.PENDING),
        # Refused for good, or a budget is spent, and what became of each OTP is known.
        (Status.ACTIVATING, Status.DEAD_LETTER),
        # Its batch was cancelled; from `activating` only instead of going back to pending.
        (Status.PENDING, Status.CANCELLED),
        (Status.QUEUED, Status.CANCELLED),
        (Status.ACTIVATING, Status.CANCELLED),
        # A person, or the schedule that a person set, replays it.
        (Status.DEAD_LETTER, Status.PENDING),
        (Status.CANCELLED, Status.PENDING),
    }
)


class OtpState(StrEnum):
    """What we know of one OTP. `sent` without `answered` is of unknown fate: read the device before anything else."""

    UNSENT = "unsent"
    SENT = "sent"
    ANSWERED = "answered"


class OtpType(StrEnum):
    HOTP = "hotp"
    TOTP = "totp"


# The conditions of the partial indexes, as constants: a database uses one only for a query that says the same in the
# same words, not in parameters.
NOT_FINAL = "status IN ('pending', 'queued', 'activating')"
IN_WINDOW = "status IN ('queued', 'activating')"
HALF_DONE = "status = 'pending' AND otp1_state = 'answered'"
EXPIRING = "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NOT NULL"
LASTING = "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NULL"
UNSETTLED = "status = 'pending' AND (otp1_state = 'sent' OR otp2_state = 'sent' OR verdict IS NOT NULL)"


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


class Record(Base):
    __tablename__ = "record"
    __table_args__ = (
        CheckConstraint(one_of("status", Status), name="status"),
        CheckConstraint(one_of("otp1_state", OtpState), name="otp1_state"),
        CheckConstraint(one_of("otp2_state", OtpState), name="otp2_state"),
        CheckConstraint(one_of("otp_type", OtpType), name="otp_type"),
        CheckConstraint("(status = 'activating') = (lease_id IS NOT NULL)", name="lease"),
        # A token or a device is worked on in one place at a time.
        _partial("uq_record_serial_number", "environment_id", "serial_number", where=NOT_FINAL, unique=True),
        _partial("uq_record_device_id", "environment_id", "device_id", where=NOT_FINAL, unique=True),
        # What is due, in the order in which it goes: one OTP from the end, OTPs that expire, the rest.
        _partial("ix_record_half_done", "batch_id", "scheduled_at", where=HALF_DONE),
        _partial("ix_record_expiring", "batch_id", "otp_expires_at", where=EXPIRING),
        _partial("ix_record_lasting", "batch_id", "scheduled_at", where=LASTING),
        # The window, and leases that ran out.
        _partial("ix_record_window", "lease_until", "batch_id", where=IN_WINDOW),
        # Records of cancelled batches to which a read is owed.
        _partial("ix_record_unsettled", "batch_id", "scheduled_at", where=UNSETTLED),
        # What was settled lately, for the breaker and the pace; and every record of a batch in its file's order.
        _partial("ix_record_finalized_at", "batch_id", "finalized_at", where="finalized_at IS NOT NULL"),
        Index("uq_record_batch_id_row_number", "batch_id", "row_number", unique=True),
        # The history of a token: has it been here before, and how did it end?
        Index("ix_record_history", "environment_id", "serial_number"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))

    # From the file; never changed after load.
    row_number: Mapped[int]
    environment_id: Mapped[str] = mapped_column(String(100))
    serial_number: Mapped[str] = mapped_column(String(50))
    user_id: Mapped[str] = mapped_column(String(36))
    device_id: Mapped[str] = mapped_column(String(36))
    username: Mapped[str | None] = mapped_column(String(320))
    lot: Mapped[str | None] = mapped_column(String(200))
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    otp_type: Mapped[str] = mapped_column(String(4), default=OtpType.HOTP)
    generated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Computed at load for TOTP: after it the OTPs are not sent any more. Empty: they last.
    otp_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    has_second_otp: Mapped[bool]

    # Both OTPs, encrypted and bound to (batch, row); erased when the record becomes active.
    otps: Mapped[bytes | None] = mapped_column(Encrypted)

    # Written by `worker.leases` alone.
    status: Mapped[str] = mapped_column(String(16), default=Status.PENDING)
    # Due from this time on, while pending.
    scheduled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # While activating: who may settle. A rescue takes the id away, so a late worker changes nothing.
    lease_id: Mapped[str | None] = mapped_column(String(32))
    # While queued (then a lost message is noticed) and while activating.
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # `sent` is committed before the request goes out, `answered` as soon as an answer was read.
    otp1_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp1_posts: Mapped[int] = mapped_column(default=0)
    otp2_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp2_posts: Mapped[int] = mapped_column(default=0)
    otp_sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The reason that it will be a dead letter for, unless a read finds the device ACTIVE.
    verdict: Mapped[str | None] = mapped_column(String(40))
    # 404s so far, over all attempts; a replay starts anew.
    not_found: Mapped[int] = mapped_column(default=0)
    # Counted attempts, and how many of them were spent before the last replay.
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_forgiven: Mapped[int] = mapped_column(default=0)
    # Requests to PingOne and 429s among them, over all attempts.
    requests: Mapped[int] = mapped_column(default=0)
    rate_limited: Mapped[int] = mapped_column(default=0)
    resynced: Mapped[bool] = mapped_column(default=False)
    # Why it is a dead letter, in one word and in a sentence with the cure; PingOne's ids of the last answer.
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(1000))
    pingone_error_id: Mapped[str | None] = mapped_column(String(100))
    correlation_id: Mapped[str | None] = mapped_column(String(100))
    # When it took its final status; empty again after a replay.
    finalized_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def needs_read() -> ColumnElement[bool]:
    """The fate of an OTP is open, or a verdict waits to be confirmed: only a read of the device may end the record."""
    return or_(Record.otp1_state == OtpState.SENT, Record.otp2_state == OtpState.SENT, Record.verdict.is_not(None))
