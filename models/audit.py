"""The audit: what persons did, in an append-only table whose lines are chained by their hashes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of


class Action(StrEnum):
    LOAD = "load"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    REPLAY = "replay"
    EXPORT_WITH_OTPS = "export_with_otps"
    RECONCILE = "reconcile"


class AuditLine(Base):
    """Never changed and never deleted: triggers of the database refuse it."""

    __tablename__ = "audit"
    __table_args__ = (CheckConstraint(one_of("action", Action), name="action"),)

    # Without gaps, from 1.
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    # OATHBULK_ACTOR, or the user of the system; `schedule` for the replay schedule.
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(40))
    batch: Mapped[str] = mapped_column(String(200))
    # What the person referred to with --ticket.
    ticket: Mapped[str | None] = mapped_column(String(200))
    # What was asked for and what it came to: counts, reasons, files; never an OTP.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    # SHA-256 (hexadecimal) over the hash of the line before and all of the above.
    hash: Mapped[str] = mapped_column(String(64))
