"""The history of records: one line for each attempt, which is one try under a lease. Lines are written once, and never
changed."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of


class Outcome(StrEnum):
    """How an attempt ended, and what became of the record."""

    # The device is ACTIVE, and so is the record.
    ACTIVE = "active"
    # The record became a dead letter for the line's reason; a person can replay it.
    DEAD_LETTER = "dead_letter"
    # The record is pending again, and the attempt counts: the dispatcher queues it after a delay.
    RETRY = "retry"
    # The record is pending again, and the attempt does not count, since nothing was decided: a hold, a pause, a request
    # that never went out.
    HANDED_BACK = "handed_back"
    # The lease ran out, because the worker died or was cut off. A rescue wrote this line and made the record pending
    # again.
    LOST = "lost"


class Failure(StrEnum):
    """Why an attempt ended without an ACTIVE device and without a dead letter: the record is tried again."""

    # The fleet's next slot was too far away: the fleet holds, or is slow.
    HOLD = "hold"
    # No call may start: the batch was paused, the lease was lost, or the worker is shutting down.
    NOT_PERMITTED = "not_permitted"
    # The next OTP is made for a time step that has not begun.
    TIME_STEP = "time_step"
    # Our database was unavailable.
    DATABASE = "database"
    # The worker died or was cut off; a rescue wrote the line.
    LEASE_RAN_OUT = "lease_ran_out"
    # No byte of the request went out.
    NOT_DELIVERED = "not_delivered"
    # The deadline for sending an OTP had passed.
    TOO_LATE_TO_SEND = "too_late_to_send"
    # PingOne answered 429.
    RATE_LIMITED = "rate_limited"
    # PingOne refused access tokens that its token endpoint had granted.
    UNAUTHORIZED = "unauthorized"
    # PingOne did not allow the worker application to read.
    FORBIDDEN = "forbidden"
    # PingOne did not find the device, the user, or the token; it may not be visible everywhere yet.
    NOT_FOUND = "not_found"
    # The request went out, but its outcome is unknown.
    OUTCOME_UNKNOWN = "outcome_unknown"
    # PingOne answered about a device other than the requested one.
    OTHER_DEVICE = "other_device"
    # A read got an answer that only an OTP should get, or another refusal.
    RESYNC_REQUIRED = "resync_required"
    INVALID_OTP = "invalid_otp"
    REJECTED = "rejected"


# The reason in an attempt's line for a device that somebody else has paired or made ACTIVE since the batch began to
# run.
SOMEBODY_ELSE = "somebody_else"
# The condition of the partial index, as a constant: a database uses the index only if a query repeats the condition
# word for word.
FAILED = "outcome <> 'active'"


class CallName(StrEnum):
    """What a request to PingOne was for."""

    # It posts an OTP.
    OTP1 = "otp1"
    OTP2 = "otp2"
    # It pairs a token with its user, which makes a device.
    PAIR = "pair"
    # It reads the device.
    READ = "read"
    # It looks up whose device a token is.
    FIND = "find"


# The calls that post an OTP.
OTP_CALLS = frozenset({CallName.OTP1, CallName.OTP2})

# A request that may have reached PingOne, at least in part: `call` (a CallName), `resync` (for an OTP: whether it was
# sent with `oathResync`), `status` (HTTP), `code`, `detail_code`, `error_id`, `correlation_id`, and `milliseconds` from
# just before sending to the answer or to the end of the wait. Unknown values are missing: a call without a `status` got
# no answer.
PastCall: TypeAlias = Mapping[str, Any]


def find_last_answer(calls: Iterable[PastCall]) -> PastCall:
    """Find the last answered call, which PingOne's audit log has too; an empty one if there is none. A refusal is
    preferred to the plain answer of the read that followed it."""
    found: PastCall = {}
    for call in calls:
        is_plain = "code" not in call and "detail_code" not in call
        if "status" in call and not (is_plain and ("code" in found or call["call"] == CallName.FIND)):
            found = call
    return found


class AttemptLine(Base):
    """What the history says about one attempt: how it ended, and each of its calls."""

    __tablename__ = "attempt"
    __table_args__ = (
        CheckConstraint(one_of("outcome", Outcome), name="outcome"),
        Index("ix_attempt_record_id", "record_id"),
        # What went wrong in a batch lately, for the breaker. The many successes are left out.
        Index("ix_attempt_failed", "batch_id", "id", postgresql_where=text(FAILED), sqlite_where=text(FAILED)),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("record.id"))
    # The record's batch, so that a batch can be judged by its own attempts.
    batch_id: Mapped[int] = mapped_column(BigKey)
    # From 1. An attempt that was handed back does not count, so the next one has the same number.
    number: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(16))
    # The reason in one word: a dead letter's reason or a failure's name; for an ACTIVE device, SOMEBODY_ELSE if
    # somebody else paired it or made it ACTIVE.
    reason: Mapped[str | None] = mapped_column(String(40))
    # The lease under which it was made.
    lease_id: Mapped[str] = mapped_column(String(32))
    # Host and process of the worker; empty if a rescue wrote this.
    worker: Mapped[str | None] = mapped_column(String(200))
    # Its requests to PingOne, in the order sent; NULL if there were none. If its worker died, those that are known: the
    # calls recorded before a later step, and the one marked as sent.
    calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # The number of these requests and the sum of their milliseconds, for sums over many attempts. Not set if the worker
    # died.
    requests: Mapped[int] = mapped_column(default=0)
    call_milliseconds: Mapped[int | None]
    # OTPs that may have reached PingOne. If PingOne asked for OTP 2, the attempt that posts OTP 2 also counts OTP 1.
    otp_posts: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
