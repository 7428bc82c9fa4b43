"""A worker process: when it was last seen, when it last ticked, and what is wrong with it, if anything."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime


class WorkerProcess(Base):
    """One row for each process, which writes it every few seconds while it is alive. All times are by the database's
    clock."""

    __tablename__ = "process"

    # Host and process id, as in an attempt's worker: `host:4711`.
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    # Its oathbulk version; empty for versions that do not report it.
    version: Mapped[str | None] = mapped_column(String(40))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it gave its last sign of life.
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it last did the dispatcher's work; empty if it never has.
    ticked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Messages dropped since its start, because no oathbulk process sends such messages.
    dropped: Mapped[int] = mapped_column(server_default="0")
    # Milliseconds that a recent round trip to the database and one to Redis took; empty if not known.
    database_milliseconds: Mapped[int | None] = mapped_column()
    redis_milliseconds: Mapped[int | None] = mapped_column()
    # When it shut down because only it was failing; the reason in one word; and a sentence with the cure. All three are
    # empty while it is healthy.
    sick_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(1000))
