"""A license's pace: how it stands, what was found of its limit, and what a person set."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime


class LicensePace(Base):
    """One row a license. Rates are in requests a second."""

    __tablename__ = "pace"
    __table_args__ = (CheckConstraint("share > 0 AND share <= 1", name="share"),)

    license: Mapped[str] = mapped_column(String(200), primary_key=True)
    # The rate lately. The rate that counts is in Redis, which may forget it.
    rate: Mapped[float | None] = mapped_column(Double)
    # The rate at which PingOne began to refuse, and when that was found; both are empty until it refused.
    ceiling: Mapped[float | None] = mapped_column(Double)
    found_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The part of the ceiling that is ours, above 0 up to 1.
    share: Mapped[float] = mapped_column(Double, default=1.0)
    # A rate that a person has set, and that does not adapt; empty unless one did.
    fixed_rate: Mapped[float | None] = mapped_column(Double)
    # While the whole fleet holds: since when, until when, and why, in one sentence. The dispatcher copies them from
    # Redis; all three are empty while the fleet does not hold.
    held_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_why: Mapped[str | None] = mapped_column(String(200))
    # A person wants the hold to end now. The next tick of a dispatcher ends it, and sets this to false.
    is_to_be_lifted: Mapped[bool] = mapped_column(default=False)
    # Who set share or rate last, when, and on which ticket.
    set_by: Mapped[str | None] = mapped_column(String(200))
    set_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ticket: Mapped[str | None] = mapped_column(String(200))
