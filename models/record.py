"""A record: one token of a batch, and how far along it is."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    String,
    and_,
    case,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Mapped, aliased, mapped_column

from models.base import LONGEST_DETAIL, LONGEST_ID, Base, BigKey, UtcDateTime, lower_case_of, one_of
from models.encrypted import Encrypted
from models.person import NAMES
from models.reason import NEEDS_FRESH_OTPS
from models.record_indexes import INDEXES
from models.record_states import OtpState, OtpType, PairingState, Status


class Record(Base):
    """One token of a batch: what its file says, what happened to its OTPs, and how it ended."""

    __tablename__ = "record"
    __table_args__ = (
        CheckConstraint(one_of("status", Status), name="status"),
        CheckConstraint(one_of("otp1_state", OtpState), name="otp1_state"),
        CheckConstraint(one_of("otp2_state", OtpState), name="otp2_state"),
        CheckConstraint(one_of("otp_type", OtpType), name="otp_type"),
        CheckConstraint(one_of("pairing", PairingState), name="pairing"),
        CheckConstraint("(status = 'activating') = (lease_id IS NOT NULL)", name="lease"),
        *INDEXES,
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))

    # What is known about the token in PingOne, from the file, the preparation, or a pairing. An unknown id is the empty
    # string.
    user_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    device_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    # The user whose device the token was at the last look-up in PingOne; NOBODY if it was free. Empty: not looked up.
    owner_id: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    # Whether PingOne's inventory has the token with its seed's parameters. Also true if the file names the device.
    is_in_inventory: Mapped[bool] = mapped_column(default=True)
    # The job that imports or imported the token; empty once that job has failed.
    import_job_id: Mapped[int | None] = mapped_column(BigKey)
    # Whether this record put the token into the inventory, and whether it made the device. An undo can remove only
    # these. After it, both stay true until a replay, although the token is no longer in the inventory, or the device id
    # is empty.
    is_token_made: Mapped[bool] = mapped_column(default=False)
    is_device_made: Mapped[bool] = mapped_column(default=False)

    # From the file; never changed after load.
    row_number: Mapped[int]
    environment_id: Mapped[str] = mapped_column(String(100))
    serial_number: Mapped[str] = mapped_column(String(50))
    # Serial numbers are always compared by this: AbC1 and aBc1 are one token. Zeros stay: 0012 and 12 may be two.
    serial_key: Mapped[str] = lower_case_of("serial_number", 50)
    username: Mapped[str | None] = mapped_column(String(320))
    email: Mapped[str | None] = mapped_column(String(320))
    external_id: Mapped[str | None] = mapped_column(String(1024))
    lot: Mapped[str | None] = mapped_column(String(200))
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    otp_type: Mapped[str] = mapped_column(String(4), default=OtpType.HOTP)
    generated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Computed at load for TOTP: the OTPs are not sent after this time. Empty: they do not expire.
    otp_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # From the file, or set by a person: no call goes out before this time, unless something was sent already. Empty:
    # calls may go out at once.
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    has_second_otp: Mapped[bool]

    # Both OTPs, or their seed, encrypted and bound to (batch, row); erased when the record becomes active. Then `spent`
    # keeps the OTPs that were sent.
    otps: Mapped[bytes | None] = mapped_column(Encrypted)
    # For a pair that made its device ACTIVE: the OTPs that were sent, including earlier pairs', encrypted like `otps`.
    # So no pair is sent twice, whatever is loaded or undone. For a seed, `next_counter` has this role.
    spent: Mapped[bytes | None] = mapped_column(Encrypted)
    # With a seed: the lowest counter (TOTP: the lowest time step number) without a sent OTP. The statement that marks
    # an OTP as sent raises it. Empty: the OTPs are a pair.
    next_counter: Mapped[int | None] = mapped_column(BigInteger)
    # With an HOTP seed: the token's own counter, as its file says. Everything between it and `next_counter` was sent on
    # the token's behalf. Never changed after load.
    first_counter: Mapped[int | None] = mapped_column(BigInteger)

    # Written by `worker.leases` alone.
    status: Mapped[str] = mapped_column(String(16), default=Status.PENDING)
    # While pending: when the dispatcher may queue it.
    scheduled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # While activating: only the holder of this id may settle the record. A rescue removes it, so a late worker changes
    # nothing.
    lease_id: Mapped[str | None] = mapped_column(String(32))
    # While queued: when its message counts as lost. While activating: when its worker counts as dead.
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Until when an undo works on its device or token: nobody else works on the record or mends it, and no other record
    # of its token is loaded. The undo clears it when it ends; if the undo is killed, this time passes.
    undone_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # `sent` is committed before the request goes out, `answered` as soon as an answer was read. `…_posts` counts
    # requests with this OTP that may have reached PingOne.
    otp1_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp1_posts: Mapped[int] = mapped_column(default=0)
    otp2_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp2_posts: Mapped[int] = mapped_column(default=0)
    # Posts before the last replay or mend that began a new budget, which sets the two counts back to 0.
    posts_forgiven: Mapped[int] = mapped_column(default=0)
    # `sent` is committed before a pairing request goes out; `pairings` counts those that may have reached PingOne since
    # the last replay.
    pairing: Mapped[str] = mapped_column(String(8), default=PairingState.UNSENT)
    pairings: Mapped[int] = mapped_column(default=0)
    # When the first of these requests was marked as sent.
    pairing_began_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When an OTP or the pairing was last marked as sent; a rescue computes from it when PingOne may be asked.
    otp_sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The reason for which it becomes a dead letter unless a read finds the device ACTIVE. Empty: none yet.
    verdict: Mapped[str | None] = mapped_column(String(40))
    # 404s so far, over all attempts; a replay sets it to 0.
    not_found: Mapped[int] = mapped_column(default=0)
    # Counted attempts, and how many of them were spent before the last replay.
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_forgiven: Mapped[int] = mapped_column(default=0)
    # Requests to PingOne and 429s among them, over all attempts.
    requests: Mapped[int] = mapped_column(default=0)
    rate_limited: Mapped[int] = mapped_column(default=0)
    # The current attempt's calls, like `attempt.calls`, as far as they are recorded. Empty, not NULL: no calls yet, and
    # a call that is marked as sent was made by an earlier attempt.
    calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # True if the device became ACTIVE after OTP 2.
    resynced: Mapped[bool] = mapped_column(default=False)
    # Why it is a dead letter, in one word and in a sentence with the cure; PingOne's ids of the last answer.
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(LONGEST_DETAIL))
    pingone_error_id: Mapped[str | None] = mapped_column(String(100))
    correlation_id: Mapped[str | None] = mapped_column(String(100))
    # When it reached its final status; empty again after a replay.
    finalized_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def all_posts() -> ColumnElement[int]:
    """All OTP posts of a record, including those of earlier budgets."""
    return Record.otp1_posts + Record.otp2_posts + Record.posts_forgiven


def is_among_first(batch_id: Any, count: Any) -> ColumnElement[bool]:
    """Whether a record is among the first N of its batch: those without a date, then by date, then in file order. One
    that has begun stays among them, whatever date a person gives it."""
    other = aliased(Record)
    is_begun = case((and_(other.not_before.is_not(None), has_begun(other)), 1), else_=0)
    mine = select(other.id, is_begun.label("is_begun"), other.not_before, other.row_number)
    # A token that waits to be given out starts when somebody gets it.
    mine = mine.where(other.batch_id == batch_id, ~is_on_the_table(other))
    # Two parts, since each has an index.
    undated = mine.where(other.not_before.is_(None)).order_by(other.row_number).limit(count)
    dated = mine.where(other.not_before.is_not(None))
    dated = dated.order_by(is_begun.desc(), other.not_before, other.row_number).limit(count)
    both = union_all(select(undated.subquery()), select(dated.subquery())).subquery()
    by = (both.c.is_begun.desc(), both.c.not_before.nulls_first(), both.c.row_number)
    return Record.id.in_(select(both.c.id).order_by(*by).limit(count))


def is_on_the_table(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether a record waits to be given out: its token has no person yet."""
    nameless = (getattr(record, name).is_(None) for name in NAMES)
    return and_(record.status == Status.PENDING, record.user_id == "", *nameless)


def needs_fresh_otps() -> ColumnElement[bool]:
    """Whether a record failed because of OTPs that somebody read off its token, so that two fresh ones mend it."""
    failed = and_(Record.status == Status.DEAD_LETTER, Record.reason.in_(NEEDS_FRESH_OTPS))
    return and_(failed, Record.next_counter.is_(None))


def has_begun(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether something was sent for a record in its current budget: an OTP, or a pairing."""
    return or_(record.otp1_posts + record.otp2_posts > 0, record.is_device_made, needs_read(record))


def needs_read(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether only a read can make the record final: the outcome of an OTP or its pairing is unknown, or a verdict
    waits for confirmation."""
    return or_(
        record.otp1_state == OtpState.SENT,
        record.otp2_state == OtpState.SENT,
        record.verdict.is_not(None),
        record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    )
