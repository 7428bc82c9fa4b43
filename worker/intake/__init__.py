"""Files in: a shipment's file becomes rows, and errors of the rows that are refused.

May import vault (OTPs); knows no database, no network and no PingOne.
Begin with `shipment` (a file is opened and read) or `rows` (what comes out of it); `formats` has a package for each
format of files.
"""

from worker.intake.assignment import Assignment, open_assignment
from worker.intake.formats.format import Hints
from worker.intake.formats.otp_pairs.columns import CANONICAL, canonical_column, normalise
from worker.intake.rows import COLUMNS, Column, Row, RowError, UnusableFile
from worker.intake.shipment import Leftovers, Shipment, open_shipment

__all__ = [
    "CANONICAL",
    "COLUMNS",
    "Assignment",
    "Column",
    "Hints",
    "Leftovers",
    "Row",
    "RowError",
    "Shipment",
    "UnusableFile",
    "canonical_column",
    "normalise",
    "open_assignment",
    "open_shipment",
]
