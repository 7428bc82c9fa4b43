"""Files in: a shipment's file becomes rows, and errors of the rows that are refused.

May import vault (OTPs); knows no database, no network and no PingOne.
Begin with `shipment` (a file is opened and read) or `rows` (what comes out of it); `formats` is the table of what is
read, `csv_rows` and `other_formats` take files apart, `tokens` checks what they hold.
"""

from worker.intake.files import Hints
from worker.intake.lists import Assignment, SerialList, open_assignment, open_serial_list
from worker.intake.rows import (
    CANONICAL,
    COLUMNS,
    FILE_ROW,
    RESULT_COLUMNS,
    Column,
    Row,
    RowError,
    SecretMissing,
    UnusableFile,
    canonical_column,
    explain_missing_ids,
    is_result,
    normalise,
)
from worker.intake.shipment import NO_SWITCHES, Leftovers, Shipment, Switches, open_shipment

__all__ = [
    "CANONICAL",
    "COLUMNS",
    "FILE_ROW",
    "NO_SWITCHES",
    "RESULT_COLUMNS",
    "Assignment",
    "Column",
    "Hints",
    "Leftovers",
    "Row",
    "RowError",
    "SecretMissing",
    "SerialList",
    "Shipment",
    "Switches",
    "UnusableFile",
    "canonical_column",
    "explain_missing_ids",
    "is_result",
    "normalise",
    "open_assignment",
    "open_serial_list",
    "open_shipment",
]
