"""Jobs that PingOne does on its inventory of tokens: it imports or revokes many at once, and is asked later how that
went."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, String, case, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey, UtcDateTime, one_of

# Characters of what PingOne says of a job that are kept.
LONGEST_DETAIL = 300


class JobKind(StrEnum):
    """What a job does."""

    # It creates the tokens of some records in the inventory.
    IMPORT = "import"
    # It removes tokens that the batch has imported.
    REVOKE = "revoke"


class JobState(StrEnum):
    """What is written down of a job. Each member says what is true of it, and who takes it further."""

    # Its request was about to go out, and no answer is written down: PingOne may be at work on it. The preparation of
    # the batch looks its tokens up once the answer cannot come any more.
    SENT = "sent"
    # PingOne gave it an id. The preparation asks for its result.
    RUNNING = "running"
    # Its result is written down, here and in the records.
    DONE = "done"
    # PingOne refused it, or it failed, and nothing came of it. Its tokens go again, fewer at a time.
    FAILED = "failed"
    # Nobody will hear of its result any more: what came of it is looked up in the inventory. Or nothing did, since its
    # request did not go out or was not acted on.
    LOST = "lost"


# The condition of the partial index, as a constant: a database uses it only for a query that says the same words.
UNFINISHED = "state IN ('sent', 'running')"


class InventoryJob(Base):
    """A job: written down before its request goes out, then with its id, then with its result, since PingOne forgets a
    finished job."""

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
    # PingOne's id of it.
    job_id: Mapped[str | None] = mapped_column(String(100))
    # Its tokens, and how many of them PingOne created or removed, and how many were there before.
    size: Mapped[int]
    done: Mapped[int | None]
    duplicates: Mapped[int | None]
    # What PingOne said of a job that failed.
    detail: Mapped[str | None] = mapped_column(String(LONGEST_DETAIL))
    # When its request was last marked as sent; after a jump of the clock, what is waited for is counted from that.
    sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    counted_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def counted_from() -> ColumnElement[datetime]:
    """From when it is counted how long a job has been out."""
    later = InventoryJob.counted_from > InventoryJob.sent_at
    return case((later, InventoryJob.counted_from), else_=InventoryJob.sent_at)
