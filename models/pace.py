"""A license's pace: its current rate, what was found out about its limit, and what a person set."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime


class LicensePace(Base):
    """One row for each license. Rates are in requests a second."""

    __tablename__ = "pace"
    __table_args__ = (CheckConstraint("share > 0 AND share <= 1", name="share"),)

    license: Mapped[str] = mapped_column(String(200), primary_key=True)
    # The recent rate. The authoritative rate is in Redis, which may forget it.
    rate: Mapped[float | None] = mapped_column(Double)
    # The rate at which PingOne began to refuse, and when that was found; both empty until then.
    ceiling: Mapped[float | None] = mapped_column(Double)
    found_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Our part of the ceiling, above 0 and up to 1.
    share: Mapped[float] = mapped_column(Double, default=1.0)
    # A fixed rate that a person set; empty if none.
    fixed_rate: Mapped[float | None] = mapped_column(Double)
    # During a hold of the whole fleet: its start, its end, and its reason in one sentence. The dispatcher copies them
    # from Redis; all three are empty without a hold.
    held_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_why: Mapped[str | None] = mapped_column(String(200))
    # A person wants the hold to end now. The dispatcher's next tick ends it and sets this to false.
    is_to_be_lifted: Mapped[bool] = mapped_column(default=False)
    # Who last set share or rate, when, and with which ticket.
    set_by: Mapped[str | None] = mapped_column(String(200))
    set_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ticket: Mapped[str | None] = mapped_column(String(200))
