"""The columns that an export adds to those of a file: how each row ended, and which row of its batch it is. When the
file comes back to mend its batch, only the last of them is read."""

from __future__ import annotations

# The column that says which row of its batch a row is, by its number in the file that was loaded. A row that was
# refused is found by nothing else, since its serial number may have been what was wrong.
FILE_ROW = "file_row"
# The columns that an export adds, in their order. The last is never empty, so that no spreadsheet takes the end of a
# row for empty.
RESULT_COLUMNS = (
    "status",
    "reason",
    "detail",
    "pingone_error_id",
    "correlation_id",
    "attempts",
    "otp_posts",
    FILE_ROW,
)
