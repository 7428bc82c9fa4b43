"""A notice: what a webhook is told about a batch, and how far its delivery has come."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of
from models.batch import LONGEST_NAME

# Characters of what went wrong with a delivery that are kept.
LONGEST_ERROR = 200


class Event(StrEnum):
    """What happened to a batch."""

    # All of its records are final.
    FINISHED = "finished"
    # It is paused until a person resumes it.
    PAUSED = "paused"
    # It is paused for an outage, a quota or its hours, and goes on by itself.
    PAUSED_FOR_NOW = "paused_for_now"
    # It goes on after a pause or a stall, or records of it go again after it was finished.
    RESUMED = "resumed"
    # Due work does not move, as `oathbulk status` says it.
    STALLED = "stalled"


# The condition of the partial index, as a constant: a database uses it only for a query that says the same words.
WAITS = "next_try_at IS NOT NULL"


class Notice(Base):
    """One row for each thing that people are told of."""

    __tablename__ = "notice"
    __table_args__ = (
        CheckConstraint(one_of("event", Event), name="event"),
        # Two workers that find the same thing at the same time write one notice of it.
        Index("uq_notice_occurrence", "batch_id", "occurrence", unique=True),
        Index("ix_notice_waits", "next_try_at", postgresql_where=text(WAITS), sqlite_where=text(WAITS)),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    batch: Mapped[str] = mapped_column(String(LONGEST_NAME))
    event: Mapped[str] = mapped_column(String(20))
    # The number of the notice among those of its batch, from 1 on.
    occurrence: Mapped[int]
    # What the webhook is told: counts, reason, cure. No serial number, no user, no OTP and no secret is in it.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it is sent next, or sent again if a worker that has claimed it does not come back. Empty once it is delivered
    # or given up.
    next_try_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # How often it was claimed to be sent.
    tries: Mapped[int] = mapped_column(default=0)
    # When the webhook answered 2xx; empty in a notice without `next_try_at`: it was given up.
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # What went wrong with the last try, in one short line.
    last_error: Mapped[str | None] = mapped_column(String(LONGEST_ERROR))
