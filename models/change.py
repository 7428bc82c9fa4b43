"""What records were before a person's commands changed them: history beside their attempts. Lines are written once;
erasing a person removes their names here too."""

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import LONGEST_ID, Base, BigKey

# The condition of the partial index, as a constant: a database uses the index only if a query has the same words.
UNNAMED = "audit_id IS NULL"


class Change(Base):
    """One record before one command: its person and its device."""

    __tablename__ = "change"
    __table_args__ = (
        Index("ix_change_record_id", "record_id"),
        Index("ix_change_unnamed", "id", postgresql_where=text(UNNAMED), sqlite_where=text(UNNAMED)),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("record.id"))
    # The audit line with who commanded what, when, and on which ticket. Empty only within the command's transaction,
    # which writes that line last.
    audit_id: Mapped[int | None] = mapped_column(BigKey)
    # As they were in the record.
    user_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    username: Mapped[str | None] = mapped_column(String(320))
    email: Mapped[str | None] = mapped_column(String(320))
    external_id: Mapped[str | None] = mapped_column(String(1024))
    device_id: Mapped[str] = mapped_column(String(LONGEST_ID))
