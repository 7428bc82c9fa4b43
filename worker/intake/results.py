"""The columns that an export adds to those of a file: how each row ended, and which record it is. When the file comes
back, only the last of them is read."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The column that names the record of a row, so that the row is recognised when it comes back.
ORIGIN = "oathbulk_row"
# The columns that an export adds, in their order. The origin is last and never empty, so that no spreadsheet takes the
# end of a row for empty.
RESULT_COLUMNS = (
    "status",
    "reason",
    "detail",
    "pingone_error_id",
    "correlation_id",
    "attempts",
    "otp_posts",
    "taken_over_by",
    ORIGIN,
)
# Those of them that hardly any file has that is not an export.
TELLING_COLUMNS = frozenset({"pingone_error_id", "correlation_id", "otp_posts"})

# A cell of the column ORIGIN. No spreadsheet takes it for a number or a date.
_CELL = re.compile(r"batch (\d{1,18}) row (\d{1,9})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """The record that a row was exported from: the id of its batch, and the row's number in the file of that batch."""

    batch_id: int
    row_number: int

    def __str__(self) -> str:
        """Write it as it stands in its column, such as `batch 17 row 345`."""
        return f"batch {self.batch_id} row {self.row_number}"


def read_origin(cell: str) -> Origin | None:
    """Read a cell of the column ORIGIN; None if it was changed."""
    found = _CELL.fullmatch(" ".join(cell.split()))
    return Origin(int(found[1]), int(found[2])) if found else None
