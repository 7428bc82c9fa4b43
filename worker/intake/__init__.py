"""Files in: a shipment's file becomes rows, and errors of the rows that are refused.

May import vault (OTPs); knows no database, no network and no PingOne.
Begin with `shipment` (a file is opened and read) or `rows` (what comes out of it); `formats` has a package for each
format of files.
"""

from worker.intake.assignment import Assignment, open_assignment
from worker.intake.formats.format import Hints
from worker.intake.formats.otp_pairs.columns import CANONICAL, canonical_column, is_result, normalise
from worker.intake.identities import explain_missing_ids
from worker.intake.results import FILE_ROW, RESULT_COLUMNS
from worker.intake.rows import COLUMNS, Column, Row, RowError, UnusableFile
from worker.intake.serial_list import SerialList, open_serial_list
from worker.intake.shipment import NO_SWITCHES, Leftovers, Shipment, Switches, open_shipment, recognise_shipment

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
    "recognise_shipment",
]
