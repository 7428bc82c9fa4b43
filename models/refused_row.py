"""A row of a file that was not loaded, and has not been mended since: which one, and why. The row's other cells are not
kept, since any of its cells may hold an OTP or a seed."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import LONGEST_DETAIL, Base, BigKey, lower_case_of

# The status shown for such a row in lists beside records.
NOT_LOADED = "not_loaded"


class RefusedRow(Base):
    """One row for each refused row of a batch's file."""

    __tablename__ = "refused_rows"
    __table_args__ = (
        Index("uq_refused_rows_batch_id_row_number", "batch_id", "row_number", unique=True),
        # Has this token ever been refused?
        Index("ix_refused_rows_serial_key", "environment_id", "serial_key"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    row_number: Mapped[int]
    environment_id: Mapped[str] = mapped_column(String(100))
    # Empty if the row has none, or one that could be a misplaced OTP or seed.
    serial_number: Mapped[str | None] = mapped_column(String(50))
    serial_key: Mapped[str | None] = lower_case_of("serial_number", 50)
    # Why it was refused: a word of `models.row_fault.RowFault`, and a sentence with the cure.
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(LONGEST_DETAIL))
    # Whether a person closed it, because nobody wants its token anymore.
    is_closed: Mapped[bool] = mapped_column(default=False)
