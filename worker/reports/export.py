"""A batch as a CSV file: the columns that it came with, and how each row ended.

A file that was itself an export has the columns of results already. They are replaced, so that it can be loaded again:
no file may have a column twice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any, TextIO

from sqlalchemy import Row, select

from models.batch import Batch
from models.encrypted import Keyring, identify_row
from models.record import Record
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.intake import COLUMNS, Column, canonical_column, normalise
from worker.observability.escaping import escape
from worker.vault.otp import OtpPair

RESULT_COLUMNS = ("status", "reason", "detail", "pingone_error_id", "correlation_id", "attempts", "otp_posts")

_RESULTS = frozenset(map(normalise, RESULT_COLUMNS))

# A spreadsheet takes a cell that begins so for a formula, and runs it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

FoundRecord = Row[*tuple[Any, ...]]


def export(
    database: Database, name: str, file: TextIO, *, status: str | None = None, keyring: Keyring | None = None
) -> int:
    """Write the batch's records, in the order of its file; how many. OTPs are left empty without a keyring, and
    where they were erased because the record became active. Raises UnknownBatch, DecryptionError."""
    with database.reading() as connection:
        batch = find_batch(connection, name, Batch.id, Batch.columns)
        records = select(Record.__table__).where(Record.batch_id == batch.id).order_by(Record.row_number)
        if status is not None:
            records = records.where(Record.status == status)
        columns = [column for column in batch.columns if normalise(column) not in _RESULTS]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*map(_format_cell, columns), *RESULT_COLUMNS])
        with connection.execution_options(yield_per=1000).execute(records) as found:
            return sum(1 for row in _make_rows(found, columns, keyring) if writer.writerow(row))


def _make_rows(records: Iterator[FoundRecord], columns: list[str], keyring: Keyring | None) -> Iterator[list[str]]:
    read = [(header, _READERS.get(canonical_column(header) or "")) for header in columns]
    for record in records:
        otps = _open_otps(record, keyring)
        original = [
            _format_cell(reader(record, otps) if reader else (record.extra or {}).get(header))
            for header, reader in read
        ]
        yield original + [_format_cell(value) for value in _read_result(record)]


def _open_otps(record: FoundRecord, keyring: Keyring | None) -> OtpPair | None:
    if keyring is None or record.otps is None:
        return None
    return OtpPair.from_plaintext(keyring.open(record.otps, identify_row(record.batch_id, record.row_number)))


def _read_result(record: FoundRecord) -> tuple[Any, ...]:
    return (
        record.status,
        record.reason,
        record.detail,
        record.pingone_error_id,
        record.correlation_id,
        record.attempts,
        record.otp1_posts + record.otp2_posts,
    )


def _format_cell(value: object) -> str:
    # Whoever looks at the file in a terminal is not to be steered by it; a value may have lines, though.
    said = value.isoformat() if isinstance(value, datetime) else str(value)
    text = "" if value is None else "\r\n".join(map(escape, said.split("\r\n")))
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _make_reader(column: Column) -> Callable[[FoundRecord, OtpPair | None], object]:
    """Reads the value of a column of the file from the record's column."""
    read = attrgetter(column.attribute)
    return lambda record, _: read(record)


# What stands in each known column of the file.
_READERS: dict[str, Callable[[FoundRecord, OtpPair | None], object]] = {
    "otp1": lambda _, otps: otps and otps.first.reveal(),
    "otp2": lambda _, otps: otps and otps.second and otps.second.reveal(),
    **{column.name: _make_reader(column) for column in COLUMNS},
}
