"""Writes a batch as a CSV file: the columns of its own file, how each row ended, and the row's number, by which a mend
recognizes it. Rows that were not loaded follow in the same columns, most of them empty.

The hand-out is a CSV for the people who distribute tokens. It says what each user must do before the first sign-on. If
oathbulk sent OTPs that it made from a seed, PingOne's counter is ahead of the HOTP token's own counter, and a server
only looks forward (RFC 4226 section 7.2). So the user must first press the token past those OTPs. docs/situations.md
explains this to a help desk."""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, TextIO

from sqlalchemy import ColumnElement, Connection, Row, false, func, select

from models.batch import Batch
from models.encrypted import Keyring
from models.person import NAMES
from models.record import Record
from models.record_states import CLOSED, KEPT_BACK, UNTIL_LET_GO, OtpState, OtpType, Status
from models.refused_row import NOT_LOADED, RefusedRow
from worker.batches.finding import choose_records, choose_rows, find_batch
from worker.database.engine import Database
from worker.intake.rows import COLUMNS, RESULT_COLUMNS, Column, canonical_column, guard_formulas, normalize
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.observability.wording import escape
from worker.reports.search import read_refused
from worker.vault.otps import OtpPair, open_otps

# The progress message while the file is written.
WRITING = "Writing records"

# The columns of a record that an export or a hand-out reads.
FoundRecord = Row[*tuple[Any, ...]]

# Matches most values, which need no guard: no formula begins with a letter or a digit, or inside such a value.
_HARMLESS = re.compile(r"[0-9A-Za-z][0-9A-Za-z .:@_-]*")

# Columns of a hand-out before the file's own columns, and the record's columns that they show.
PERSON_COLUMNS = {"serial": "serial_number", **{name: name for name in (*NAMES, "user_id")}}
# Columns of a hand-out after the file's own columns.
ADVICE_COLUMNS = ("otp_type", "presses_to_discard", "what_to_do")

# Columns that a batch's file has if it was once a hand-out or an export. They are not repeated.
_OURS = frozenset(map(normalize, (*ADVICE_COLUMNS, *RESULT_COLUMNS)))

NOTHING_FOR_HOTP = "Press the token, and sign on with the number that it shows."
NOTHING_FOR_TOTP = "Sign on with the number that the token shows now."
# The warning for a token whose counter a restored database does not know.
LIMIT = (
    "You might need fewer presses, because it is not known which numbers were sent before the database was restored. "
)
# The limit on tries, since PingOne locks a device after a few wrong OTPs, usually three.
IF_REFUSED = "If the number is refused, try the next one once, then call the help desk."


def write_hand_out(
    database: Database, name: str, file: TextIO, on_progress: OnProgress = tell_nobody, where: Sequence[str] = ()
) -> int:
    """Write a line for every active token of the batch that fulfills all conditions in `where`, in the order of its
    file, and return the number of lines. A hand-out contains no OTP. Raises UnknownBatch, UnknownColumn."""
    with database.reading_snapshot() as connection:
        batch = find_batch(connection, name, Batch.id, Batch.columns)
        own = [column for column in batch.columns if _is_own(column)]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PERSON_COLUMNS, *map(format_cell, own), *ADVICE_COLUMNS])
        chosen = choose_records(connection, name, where)
        conditions = (Record.batch_id == batch.id, Record.status == Status.ACTIVE, chosen)
        total = connection.scalar(select(func.count()).where(*conditions))
        records = select(Record.__table__).where(*conditions).order_by(Record.row_number)
        with connection.execution_options(yield_per=1000).execute(records) as found:
            lines = (map(format_cell, _make_line(record, own)) for record in found)
            return sum(1 for line in telling(lines, on_progress, WRITING, total) if writer.writerow(line))


def count_presses(first_counter: int | None, next_counter: int | None) -> int:
    """Count how often a user must press a token and discard its OTP before PingOne accepts one: once for each counter
    from the token's own up to the last one whose OTP oathbulk sent.

    `first_counter` is the token's own counter; it is None for TOTP, and if the OTPs were read off the token.
    `next_counter` is the lowest counter whose OTP was not sent. The count is too high if PingOne never took an OTP, or
    if somebody pressed the token meanwhile; PingOne's look-ahead window forgives some of that."""
    return 0 if first_counter is None or next_counter is None else next_counter - first_counter


def advise(otp_type: str, presses: int, *, is_limit: bool = False) -> str:
    """Say what a user must do before the first sign-on with a token. `is_limit`: the number of presses is the most that
    may be needed, since the exact number is unknown."""
    if otp_type == OtpType.TOTP:
        return f"{NOTHING_FOR_TOTP} {IF_REFUSED}"
    if presses == 0:
        return f"{NOTHING_FOR_HOTP} {IF_REFUSED}"
    if presses == 1:
        return f"Press once and ignore the number; sign on with the second. {IF_REFUSED}"
    return (
        f"Press {presses} times and ignore these {presses} numbers; sign on with the next one, number"
        f" {presses + 1}. {LIMIT if is_limit else ''}{IF_REFUSED}"
    )


def describe_sign_on(record: Any) -> str:
    """Say what the user must do before the first sign-on with the token of an active record."""
    presses = count_presses(record.first_counter, record.next_counter)
    return advise(record.otp_type, presses, is_limit=is_counter_unknown(record))


def is_counter_unknown(record: Any) -> bool:
    """Whether it is unknown how many counters of an active token's seed PingOne has used: after a restore of the
    database, the device was already ACTIVE. The counters that may have been used are then skipped."""
    has_seed = record.next_counter is not None
    return has_seed and record.otp1_state == OtpState.SENT and record.otp2_state == OtpState.SENT


def _is_own(column: str) -> bool:
    """Whether a hand-out repeats a column of the file as it is: oathbulk does not use it (such as a site), or it is the
    lot."""
    return canonical_column(column) in (None, "lot") and normalize(column) not in _OURS


def _make_line(record: FoundRecord, own: list[str]) -> list[Any]:
    extra = record.extra or {}
    return [
        *(getattr(record, attribute) for attribute in PERSON_COLUMNS.values()),
        *(record.lot if canonical_column(column) == "lot" else extra.get(column) for column in own),
        record.otp_type,
        count_presses(record.first_counter, record.next_counter),
        describe_sign_on(record),
    ]


def export(
    database: Database,
    name: str,
    file: TextIO,
    *,
    status: str | None = None,
    reasons: Collection[str] | None = None,
    failed: bool = False,
    where: Sequence[str] = (),
    keyring: Keyring | None = None,
    on_progress: OnProgress = tell_nobody,
) -> int:
    """Write the batch's rows and return their number: records in the order of its file, then rows that were not loaded.
    Writes all rows, or only those of this status, or the dead letters with these reasons. With `failed`, writes only
    dead letters, and rows that were not loaded and that nobody closed. With `where`, writes only rows that fulfill all
    conditions, each written as COLUMN=VALUE. The cells for OTPs are empty without a keyring, and if the OTPs were
    erased because the record became active. Raises UnknownBatch, UnknownColumn, DecryptionError."""
    with database.reading_snapshot() as connection:
        batch = find_batch(connection, name, Batch.id, Batch.columns)
        columns = batch.columns
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*map(format_cell, columns), *RESULT_COLUMNS])
        chosen = choose_rows(connection, name, where)
        conditions = [Record.batch_id == batch.id, chosen.records, *_choose(status, reasons, failed=failed)]
        not_loaded = [RefusedRow.batch_id == batch.id, chosen.not_loaded]
        not_loaded += [false()] if reasons else list(_choose_not_loaded(status, failed=failed))
        read = (Record.__table__.c[name] for name in (*_READ, *(("otps",) if keyring else ())))
        records = select(*read).where(*conditions).order_by(Record.row_number)
        total = connection.scalar(select(func.count()).where(*conditions))
        with connection.execution_options(yield_per=1000).execute(records) as found:
            rows = telling(_make_rows(found, columns, keyring), on_progress, WRITING, total)
            below = _make_rows_not_loaded(connection, columns, not_loaded)
            return sum(1 for row in chain(rows, below) if writer.writerow(row))


def _choose(status: str | None, reasons: Collection[str] | None, *, failed: bool) -> Iterator[ColumnElement[bool]]:
    """Make the conditions that select records of this status, and dead letters with these reasons."""
    if status is not None:
        yield Record.status == status
    if failed or reasons:
        yield Record.status == Status.DEAD_LETTER
    if reasons:
        yield Record.reason.in_(reasons)


def _choose_not_loaded(status: str | None, *, failed: bool) -> Iterator[ColumnElement[bool]]:
    """Make the conditions that select rows that were not loaded. Those that a person closed count as cancelled."""
    match status:
        case _ if status == NOT_LOADED or failed:
            yield RefusedRow.is_closed.is_(False)
        case Status.CANCELLED:
            yield RefusedRow.is_closed.is_(True)
        case str():
            yield false()


def _make_rows(records: Iterator[FoundRecord], columns: list[str], keyring: Keyring | None) -> Iterator[list[str]]:
    """Write each record as the cells of its row."""
    read = [(header, _READERS.get(canonical_column(header) or "")) for header in columns]
    for record in records:
        otps = _open_otps(record, keyring)
        original = [
            format_cell(reader(record, otps) if reader else (record.extra or {}).get(header)) for header, reader in read
        ]
        yield original + [format_cell(value) for value in _read_result(record)]


def _make_rows_not_loaded(
    connection: Connection, columns: list[str], conditions: Sequence[ColumnElement[bool]]
) -> Iterator[list[str]]:
    """Write each row that was not loaded as the cells of its row. Of its own values, only the serial number is kept."""
    for line in read_refused(connection, *conditions):
        original = [line.serial_number if canonical_column(header) == "serial" else None for header in columns]
        status, reason = (Status.CANCELLED, CLOSED) if line.is_closed else (NOT_LOADED, line.reason)
        result = (status, reason, line.detail, None, None, 0, 0, line.row_number)
        yield [format_cell(value) for value in (*original, *result)]


def _open_otps(record: FoundRecord, keyring: Keyring | None) -> OtpPair | None:
    """Decrypt the record's OTPs; None without a keyring, or if they were erased. Raises DecryptionError."""
    if keyring is None or record.otps is None:
        return None
    source = open_otps(keyring, record.otps, record.batch_id, record.row_number)
    # A seed never leaves the database: the vendor's file has it.
    return source if isinstance(source, OtpPair) else None


def _read_result(record: FoundRecord) -> tuple[Any, ...]:
    """Read how the record ended, and the number of its row, in the order of RESULT_COLUMNS."""
    return (
        record.status,
        record.reason,
        record.detail,
        record.pingone_error_id,
        record.correlation_id,
        record.attempts,
        record.otp1_posts + record.otp2_posts + record.posts_forgiven,
        record.row_number,
    )


def format_cell(value: object) -> str:
    """Write a value so that no spreadsheet runs it as a formula, and no terminal obeys its control characters."""
    if value is None:
        return ""
    text = _write_time(value) if isinstance(value, datetime) else str(value)
    if _HARMLESS.fullmatch(text):
        return text
    # Control characters are escaped, except line breaks.
    return guard_formulas("\r\n".join(map(escape, text.split("\r\n"))))


def _write_time(value: datetime) -> str:
    return KEPT_BACK if value == UNTIL_LET_GO else value.isoformat()


def _make_reader(column: Column) -> Callable[[FoundRecord, OtpPair | None], object]:
    """Make the function that reads the value of this column of the file from a record."""
    read = attrgetter(column.attribute)
    return lambda record, _: read(record)


# The functions that read a known column's value from a record and its OTPs, by the column's name.
_READERS: dict[str, Callable[[FoundRecord, OtpPair | None], object]] = {
    "otp1": lambda _, otps: otps and otps.first.reveal(),
    "otp2": lambda _, otps: otps and otps.second and otps.second.reveal(),
    **{column.name: _make_reader(column) for column in COLUMNS},
}
# The columns of a record that an export reads, apart from its OTPs.
_READ = (
    *(column.attribute for column in COLUMNS),
    *("batch_id", "row_number", "extra", "status", "reason", "detail", "pingone_error_id", "correlation_id"),
    *("attempts", "otp1_posts", "otp2_posts", "posts_forgiven"),
)
