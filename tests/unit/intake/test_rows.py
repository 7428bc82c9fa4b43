"""The columns of a row are declared once, and every other place takes them from there."""

from __future__ import annotations

from dataclasses import fields

from models.record import Record
from worker.batches.loading import RecordRows
from worker.intake import COLUMNS, Row, canonical_column
from worker.intake.rows import PLAIN
from worker.reports.export import _READERS


def test_every_column_of_a_row_has_a_column_of_the_record() -> None:
    for column in COLUMNS:
        assert column.attribute in Record.__table__.columns, f"add {column.attribute} to models.record, and a migration"


def test_the_longest_text_of_a_column_is_what_the_record_has_room_for() -> None:
    room = {column.attribute: Record.__table__.c[column.attribute].type.length for column in PLAIN}
    assert {column.attribute: column.longest for column in PLAIN} == room


def test_every_column_of_a_row_is_read_loaded_and_exported() -> None:
    written = RecordRows(None, 1, None).columns
    for column in COLUMNS:
        assert canonical_column(column.name) == column.name
        assert column.attribute in written
        assert column.name in _READERS


def test_a_field_of_a_row_is_a_column_or_one_of_four_that_no_cell_alone_brings() -> None:
    names = {field.name for field in fields(Row)}
    assert names - {column.attribute for column in COLUMNS} == {"row_number", "otps", "file_row", "extra"}
