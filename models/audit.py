"""The audit: what people commanded, in an append-only table whose lines are chained by their hashes."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime
from models.batch import LONGEST_NAME

# Maximum length of a ticket, in characters.
LONGEST_TICKET = 200


class Action(StrEnum):
    """What was commanded, by the name of the command."""

    LOAD = "load"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    REPLAY = "replay"
    MEND = "mend"
    GIVE = "give"
    EXPORT_WITH_OTPS = "export --with-otps"
    UNDO = "undo"
    PURGE = "purge"
    PURGE_PERSON = "purge --person"
    PACE = "pace"
    # `pace --lift`, and `resume --now`.
    LIFT = "pace --lift"
    RESTORED = "db restored"
    REENCRYPT = "db reencrypt"
    UPGRADE = "db upgrade"
    # Nobody typed it: a worker learned how the environment handles `oathResync`.
    LEARN = "learn"


class AuditLine(Base):
    """One command in the audit. A line is never changed and never deleted: triggers in the database refuse that."""

    __tablename__ = "audit"

    # Without gaps, from 1.
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    # The database's time when the line was written, in milliseconds.
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Who commanded it: OATHBULK_ACTOR, or else the operating system's user; `schedule` for the replay schedule.
    actor: Mapped[str] = mapped_column(String(200))
    # An Action. The table does not check it, so that a later version adds an action without a migration.
    action: Mapped[str] = mapped_column(String(40))
    # Empty if the action concerns no single batch: a license's pace, the keys, the schema.
    batch: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    # What the person referred to with --ticket.
    ticket: Mapped[str | None] = mapped_column(String(LONGEST_TICKET))
    # What was asked for and the result: counts, reasons, files; never an OTP.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    # SHA-256 (hexadecimal) over the previous line's hash and all of the above.
    hash: Mapped[str] = mapped_column(String(64))
