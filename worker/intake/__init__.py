"""Intake: a shipment's file in, rows and row errors out. Reads; knows no database and no PingOne."""

from worker.intake.formats.otp_pairs.columns import CANONICAL, canonical_column, normalise
from worker.intake.rows import COLUMNS, Column, Row, RowError, UnusableFile
from worker.intake.shipment import Shipment, open_shipment

__all__ = [
    "CANONICAL",
    "COLUMNS",
    "Column",
    "Row",
    "RowError",
    "Shipment",
    "UnusableFile",
    "canonical_column",
    "normalise",
    "open_shipment",
]
