"""A batch: one file that was loaded, bound to one PingOne environment."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of


class BatchState(StrEnum):
    """What a person or the breaker set. Whether a batch is finished is a count of its records, not a state."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Batch(Base):
    __tablename__ = "batch"
    __table_args__ = (
        CheckConstraint(one_of("state", BatchState), name="state"),
        # A file is loaded once into an environment, unless its batch was cancelled.
        Index(
            "uq_batch_file",
            "environment_id",
            "file_sha256",
            unique=True,
            postgresql_where=text("state <> 'cancelled'"),
            sqlite_where=text("state <> 'cancelled'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    # The binding: set at load, never changed. The name finds the configuration, the id proves it is the same tenant.
    environment: Mapped[str] = mapped_column(String(100))
    environment_id: Mapped[str] = mapped_column(String(100))
    # Changed by a person's command, or by a worker that found something which only a person can mend.
    state: Mapped[str] = mapped_column(String(16), default=BatchState.RUNNING)
    # One word why it is paused, and a sentence with the cure; both empty unless paused.
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(1000))
    # The file: where it came from, the SHA-256 of its bytes (hexadecimal), its header in order.
    file: Mapped[str] = mapped_column(String(1000))
    file_sha256: Mapped[str] = mapped_column(String(64))
    columns: Mapped[list[str]] = mapped_column(JSON)
    # Counted once at load: records written, and rows that were refused.
    total: Mapped[int] = mapped_column(default=0)
    rows_refused: Mapped[int] = mapped_column(default=0)
    # While set, only rows up to this one go, and the batch pauses when they are final; the resume after it empties it.
    canary_row: Mapped[int | None]
    # While set, only rows up to this one go: the first few of a batch in an environment of which nothing is known yet.
    # Emptied as soon as one of them is active, or by a person's resume.
    trial_row: Mapped[int | None]
    # Paused for an outage: when a few records are sent to see whether it is over; and how often in a row it was not.
    probe_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outages: Mapped[int] = mapped_column(default=0, server_default="0")
    # The hours of a day in which it may run, as 22:00-05:30, and the IANA name of their time zone; both or neither.
    daily_window: Mapped[str | None] = mapped_column(String(11))
    zone: Mapped[str | None] = mapped_column(String(64))
    # While it runs: when its window closes; no call starts from then on.
    closes_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Paused for its window or a quota: when it goes on by itself.
    resumes_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it was loaded, or last began to run again.
    running_since: Mapped[datetime] = mapped_column(UtcDateTime)
    # The breaker judges a batch by the attempts whose ids are above these marks, whatever a clock says. A person's
    # command moves `judged_after`; `running_after` is moved whenever the batch goes on by itself as well, and an outage
    # is told from the attempts after it.
    judged_after: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    running_after: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
