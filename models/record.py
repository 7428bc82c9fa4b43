"""A record: one token of a batch, and where we are with it."""

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
    """One token of a batch: what its file says of it, how far its OTPs have come, and how it ended."""

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

    # What is known of the token in PingOne: from the file, or found by the preparation or by a pairing. An id that is
    # not known is the empty text.
    user_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    device_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    # By PingOne, the user whose device the token was when it was looked up last; NOBODY if it was free. Empty: it was
    # not looked up.
    owner_id: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    # Whether PingOne's inventory has the token, with the parameters of its seed. True too where the file names the
    # device.
    is_in_inventory: Mapped[bool] = mapped_column(default=True)
    # The job that imports the token, or did; empty once that came to nothing.
    import_job_id: Mapped[int | None] = mapped_column(BigKey)
    # Whether this record put the token into the inventory, and whether it made the device. Only these may be undone.
    # They stay true, until a replay, of what an undo took away: then the token is not in the inventory, or the device
    # has no id.
    is_token_made: Mapped[bool] = mapped_column(default=False)
    is_device_made: Mapped[bool] = mapped_column(default=False)

    # From the file; never changed after load.
    row_number: Mapped[int]
    environment_id: Mapped[str] = mapped_column(String(100))
    serial_number: Mapped[str] = mapped_column(String(50))
    # By this all serial numbers are compared: AbC1 and aBc1 are one token. Zeros stay: 0012 and 12 may be two.
    serial_key: Mapped[str] = lower_case_of("serial_number", 50)
    username: Mapped[str | None] = mapped_column(String(320))
    email: Mapped[str | None] = mapped_column(String(320))
    external_id: Mapped[str | None] = mapped_column(String(1024))
    lot: Mapped[str | None] = mapped_column(String(200))
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    otp_type: Mapped[str] = mapped_column(String(4), default=OtpType.HOTP)
    generated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Computed at load for TOTP: from then on the OTPs are not sent any more. Empty: they last.
    otp_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Nothing goes out for it before, unless something did already: from the file, or set by a person. Empty: at once.
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    has_second_otp: Mapped[bool]

    # Both OTPs, or the seed that makes them, encrypted and bound to (batch, row); erased when the record becomes
    # active. Then `spent` keeps what went out.
    otps: Mapped[bytes | None] = mapped_column(Encrypted)
    # Of a pair that made its device ACTIVE: the OTPs that went out, those of earlier pairs too; encrypted as `otps`. So
    # no pair goes twice, whatever file comes after whatever undo. Of a seed `next_counter` says it.
    spent: Mapped[bytes | None] = mapped_column(Encrypted)
    # With a seed: the lowest counter (for TOTP, the lowest number of a time step) of which no OTP was sent. It moves in
    # the statement that marks an OTP as sent. Empty: the OTPs are a pair.
    next_counter: Mapped[int | None] = mapped_column(BigInteger)
    # With a HOTP seed: the counter at which the token itself stands, as its file says. What lies between it and
    # `next_counter` was sent on the token's behalf. Never changed after load.
    first_counter: Mapped[int | None] = mapped_column(BigInteger)

    # Written by `worker.leases` alone.
    status: Mapped[str] = mapped_column(String(16), default=Status.PENDING)
    # While pending: the dispatcher may queue it from then on.
    scheduled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # While activating: only who has this id may settle. A rescue takes it away, so a late worker changes nothing.
    lease_id: Mapped[str | None] = mapped_column(String(32))
    # While queued: when its message is taken for lost. While activating: when its worker is taken for dead.
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # An undo has its device or token in hand until then: nobody else works on the record or mends it meanwhile, and no
    # other record of its token is loaded. The undo empties it in its end; one that was killed leaves it to run out.
    undone_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # `sent` is committed before the request goes out, `answered` as soon as an answer was read. `…_posts` counts the
    # requests with this OTP that may have reached PingOne.
    otp1_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp1_posts: Mapped[int] = mapped_column(default=0)
    otp2_state: Mapped[str] = mapped_column(String(8), default=OtpState.UNSENT)
    otp2_posts: Mapped[int] = mapped_column(default=0)
    # How many posts were made before the last replay or mend that began a new budget; the two counts then begin at 0.
    posts_forgiven: Mapped[int] = mapped_column(default=0)
    # `sent` is committed before a request to pair goes out; `pairings` counts those that may have reached PingOne since
    # the last replay.
    pairing: Mapped[str] = mapped_column(String(8), default=PairingState.UNSENT)
    pairings: Mapped[int] = mapped_column(default=0)
    # When the first of these was marked as sent.
    pairing_began_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When an OTP or the pairing was last marked as sent; a rescue counts from it when PingOne may be asked about it.
    otp_sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The reason for which it becomes a dead letter, unless a read finds the device ACTIVE. Empty: there is none yet.
    verdict: Mapped[str | None] = mapped_column(String(40))
    # 404s so far, over all attempts; a replay sets it to 0.
    not_found: Mapped[int] = mapped_column(default=0)
    # Counted attempts, and how many of them were spent before the last replay.
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_forgiven: Mapped[int] = mapped_column(default=0)
    # Requests to PingOne and 429s among them, over all attempts.
    requests: Mapped[int] = mapped_column(default=0)
    rate_limited: Mapped[int] = mapped_column(default=0)
    # What the attempt in work has called so far, as in `attempt.calls`, as far as that is written down before its end.
    # Empty, and not NULL: nothing yet, and what is marked as sent was so before.
    calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    # True where the device became ACTIVE after OTP 2 was sent.
    resynced: Mapped[bool] = mapped_column(default=False)
    # Why it is a dead letter, in one word and in a sentence with the cure; PingOne's ids of the last answer.
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(LONGEST_DETAIL))
    pingone_error_id: Mapped[str | None] = mapped_column(String(100))
    correlation_id: Mapped[str | None] = mapped_column(String(100))
    # When it took its final status; empty again after a replay.
    finalized_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def all_posts() -> ColumnElement[int]:
    """All OTP posts of a record, those of earlier budgets too."""
    return Record.otp1_posts + Record.otp2_posts + Record.posts_forgiven


def is_among_first(batch_id: Any, count: Any) -> ColumnElement[bool]:
    """Whether a record is among so many of its batch that go first: by their dates, those without one in front, then in
    the order of the file. One that has begun stays among them, whatever date a person gives it."""
    other = aliased(Record)
    is_begun = case((and_(other.not_before.is_not(None), has_begun(other)), 1), else_=0)
    mine = select(other.id, is_begun.label("is_begun"), other.not_before, other.row_number)
    # What waits to be given out begins when somebody gets it.
    mine = mine.where(other.batch_id == batch_id, ~is_on_the_table(other))
    # Two parts, since each has an index.
    undated = mine.where(other.not_before.is_(None)).order_by(other.row_number).limit(count)
    dated = mine.where(other.not_before.is_not(None))
    dated = dated.order_by(is_begun.desc(), other.not_before, other.row_number).limit(count)
    both = union_all(select(undated.subquery()), select(dated.subquery())).subquery()
    by = (both.c.is_begun.desc(), both.c.not_before.nulls_first(), both.c.row_number)
    return Record.id.in_(select(both.c.id).order_by(*by).limit(count))


def is_on_the_table(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether a record waits to be given out: nobody is to get its token yet."""
    nameless = (getattr(record, name).is_(None) for name in NAMES)
    return and_(record.status == Status.PENDING, record.user_id == "", *nameless)


def needs_fresh_otps() -> ColumnElement[bool]:
    """Whether a record failed for OTPs that somebody read off its token, so that two fresh ones mend it."""
    failed = and_(Record.status == Status.DEAD_LETTER, Record.reason.in_(NEEDS_FRESH_OTPS))
    return and_(failed, Record.next_counter.is_(None))


def has_begun(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether something went out for a record under its present budget: an OTP, or what made its device."""
    return or_(record.otp1_posts + record.otp2_posts > 0, record.is_device_made, needs_read(record))


def needs_read(record: type[Record] = Record) -> ColumnElement[bool]:
    """Whether only a read may end the record: what became of an OTP or of its pairing is unknown, or a verdict waits to
    be confirmed."""
    return or_(
        record.otp1_state == OtpState.SENT,
        record.otp2_state == OtpState.SENT,
        record.verdict.is_not(None),
        record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    )
