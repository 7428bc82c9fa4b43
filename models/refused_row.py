"""A row of a file that was not loaded, since something is wrong with it, and was not mended since: which one it was,
and why. Nothing else of it is kept, since any of its cells may hold an OTP or a seed."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import LONGEST_DETAIL, Base, BigKey, lower_case_of

# What stands for its status, which it has not, wherever rows are listed beside records.
NOT_LOADED = "not_loaded"


class RefusedRow(Base):
    """One row for each refused row of a batch's file."""

    __tablename__ = "refused_rows"
    __table_args__ = (
        Index("uq_refused_rows_batch_id_row_number", "batch_id", "row_number", unique=True),
        # Was this token ever refused?
        Index("ix_refused_rows_serial_key", "environment_id", "serial_key"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    row_number: Mapped[int]
    environment_id: Mapped[str] = mapped_column(String(100))
    # Empty where the row has none, or one that cannot be told from an OTP or a seed in the wrong column.
    serial_number: Mapped[str | None] = mapped_column(String(50))
    serial_key: Mapped[str | None] = lower_case_of("serial_number", 50)
    # Why it was refused: a word of `models.row_fault.RowFault`, and a sentence with the cure.
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(LONGEST_DETAIL))
    # Whether a person closed it, since nobody wants its token any more.
    is_closed: Mapped[bool] = mapped_column(default=False)
