"""PingOne's jobs that import many tokens into its inventory at once, or revoke them. Their results are read later."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, String, case, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of

# Maximum length of PingOne's message about a job, in characters.
LONGEST_DETAIL = 300


class JobKind(StrEnum):
    """What a job does."""

    # It creates the tokens of several records in the inventory.
    IMPORT = "import"
    # It removes tokens that the batch has imported.
    REVOKE = "revoke"


class JobState(StrEnum):
    """The state of a job. The comment on each member says what is true of the job, and who continues it."""

    # Its request was about to be sent, and no answer is recorded: PingOne may be working on it. The preparation looks
    # its tokens up once no answer can come anymore.
    SENT = "sent"
    # PingOne gave it an id. The preparation asks for its result.
    RUNNING = "running"
    # Its result is recorded, here and in the records.
    DONE = "done"
    # PingOne refused it, or it failed without effect. Its tokens are tried again, fewer at a time.
    FAILED = "failed"
    # Its result will never be known: its effect is looked up in the inventory. Or it did nothing, since its request was
    # not sent or was not acted on.
    LOST = "lost"


# The condition of the partial index, as a constant: a database uses the index only if a query has the same words.
UNFINISHED = "state IN ('sent', 'running')"


class InventoryJob(Base):
    """A job: recorded before its request is sent, then with its id, then with its result, since PingOne forgets
    finished jobs."""

    __tablename__ = "inventory_job"
    __table_args__ = (
        CheckConstraint(one_of("kind", JobKind), name="kind"),
        CheckConstraint(one_of("state", JobState), name="state"),
        Index("ix_inventory_job_batch_id", "batch_id", "id"),
        Index(
            "ix_inventory_job_unfinished",
            "batch_id",
            postgresql_where=text(UNFINISHED),
            sqlite_where=text(UNFINISHED),
        ),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    kind: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8), default=JobState.SENT)
    # PingOne's id.
    job_id: Mapped[str | None] = mapped_column(String(100))
    # How many tokens it has, and how many of them PingOne created or removed, or already had.
    size: Mapped[int]
    done: Mapped[int | None]
    duplicates: Mapped[int | None]
    # PingOne's message about a failed job.
    detail: Mapped[str | None] = mapped_column(String(LONGEST_DETAIL))
    # When its request was last marked as sent; after a jump of the clock, waits count from this.
    sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    counted_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def counted_from() -> ColumnElement[datetime]:
    """The time from which a job's age counts."""
    later = InventoryJob.counted_from > InventoryJob.sent_at
    return case((later, InventoryJob.counted_from), else_=InventoryJob.sent_at)
