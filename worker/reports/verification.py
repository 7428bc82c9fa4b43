"""Verification: every device of a batch is read back from PingOne, and its tokens, and compared with the records: for a
token that a later batch took over, with the record of that one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

from sqlalchemy import Connection, Row, func, select

from models.batch import Batch
from models.record import Record
from models.record_states import Status
from worker.batches.finding import find_batch
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import NotFound, PingOneError
from worker.reports.device_reads import Answer, Read, make_read_call
from worker.reports.inventory_verification import TokenCheck
from worker.reports.taken_over import read_successors, select_taken_over

# Reads that are under way or wait for their slot; bounds the memory whatever the batch's size.
CHUNK = 500
# The highest number that a row can have.
_LAST_ROW = 2**31 - 1
# What is told while devices are read.
READING = "Reading devices back"

# What a record is compared by.
_COLUMNS = (
    *(Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.user_id, Record.device_id),
    *(Record.status, Record.reason, Record.is_in_inventory, Record.otps, Record.next_counter),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A device or token whose state in PingOne (`theirs`) is not what the record says (`ours`); or one that could not
    be read (`is_known` is False, and `theirs` says why). `later`: the name of the batch whose record it is, if a later
    one took the token over; the row is that of the batch that is verified."""

    row_number: int
    serial_number: str
    ours: str
    theirs: str
    is_known: bool = True
    later: str | None = None


@dataclass(frozen=True, slots=True)
class _Verified:
    """A row of the batch, the record that counts for its token now, and the later batch of that, if it is of one."""

    row_number: int
    record: Row[*tuple[Any, ...]]
    later: str | None = None

    def place(self, difference: Difference) -> Difference:
        """Say of a difference on which row of the batch it is."""
        return replace(difference, row_number=self.row_number, later=self.later)


def find_environment(database: Database, name: str, load: Callable[[str], Environment]) -> Environment:
    """Load the environment that the batch was loaded for. Raises UnknownBatch; ConfigError if it is not configured any
    more, or has another id now: in another one, none of the batch's devices would be found."""
    with database.reading() as connection:
        batch = find_batch(connection, name, Batch.environment, Batch.environment_id)
    environment = load(batch.environment)
    if environment.environment_id != batch.environment_id:
        raise ConfigError(
            f"batch {name!r} was loaded for environment {batch.environment_id}, and {batch.environment!r} is "
            f"{environment.environment_id} now: restore PINGONE_ENVIRONMENT_ID"
        )
    return environment


def verify(
    database: Database,
    name: str,
    read: Read,
    threads: int,
    tokens: TokenCheck | None = None,
    on_progress: OnProgress = tell_nobody,
) -> Iterator[Difference]:
    """Read every device of the batch, and yield the differences in the order of its file; with `tokens`, those of the
    inventory too, unless that could not be read, as `tokens.failure` says then. Raises UnknownBatch."""
    with database.reading() as connection:
        batch_id = find_batch(connection, name, Batch.id).id
        mine = select(Record.row_number).where(Record.batch_id == batch_id)
        both = mine.union(select(select_taken_over(batch_id).subquery().c.row_number)).subquery()
        total = connection.scalar(select(func.count()).select_from(both)) or 0
    if tokens is not None:
        tokens.read(database, batch_id)
    on_progress(READING, 0, total)
    with ThreadPoolExecutor(threads) as pool:
        rows, done = _read_pages(database, batch_id), count(1)
        while chunk := list(islice(rows, CHUNK)):
            answers = _read_devices(pool, read, chunk, lambda: on_progress(READING, next(done), total))
            for row, answer in zip(chunk, answers, strict=True):
                if difference := compare(row.record, answer) or _compare_token(row.record, tokens):
                    yield row.place(difference)


def _read_devices(
    pool: ThreadPoolExecutor, read: Read, rows: Sequence[_Verified], on_read: Callable[[], None]
) -> list[Answer | None]:
    """Read the devices of these rows; the answers come in the order of the rows. `on_read` is called after each read,
    whichever it was: one that gets its slot late would otherwise hide how many others are done."""
    reads = [pool.submit(_read, read, row.record) for row in rows]
    try:
        for finished in as_completed(reads):
            finished.result()
            on_read()
        return [each.result() for each in reads]
    finally:
        # After a failure or Ctrl-C no further read goes out.
        for each in reads:
            each.cancel()


def _read(read: Read, record: Row[*tuple[Any, ...]]) -> Answer | None:
    """Read the device of a record; None if it has none, or it is not known whose it is."""
    if not record.device_id or not record.user_id:
        return None
    return read(record.user_id, record.device_id, make_read_call(record.id))


def _compare_token(record: Row[*tuple[Any, ...]], tokens: TokenCheck | None) -> Difference | None:
    """Compare a record with what the inventory has of its token."""
    described = tokens.describe(record) if tokens is not None else None
    if described is None:
        return None
    return Difference(record.row_number, record.serial_number, record.status, described)


def compare(record: Row[*tuple[Any, ...]], answer: Answer | None) -> Difference | None:
    """Compare a record with what was read of its device: that of an active record must be ACTIVE, and no other may be.
    None if they agree, or there was nothing to read."""
    if answer is None:
        return None
    if isinstance(answer, NotFound):
        theirs, is_known, is_same = "not found", True, record.status != Status.ACTIVE
    elif isinstance(answer, PingOneError | SlotTooFar):
        theirs, is_known, is_same = f"could not be read ({answer})", False, False
    else:
        theirs, is_known = answer.status or "unknown", True
        is_same = answer.is_active == (record.status == Status.ACTIVE)
    return None if is_same else Difference(record.row_number, record.serial_number, record.status, theirs, is_known)


def _read_pages(database: Database, batch_id: int) -> Iterator[_Verified]:
    """Read the batch's records page by page, so that no transaction is open while the network is used; instead of those
    that a later batch took over, and of refused rows, the records of that."""
    last = -1
    while last < _LAST_ROW:
        page = (
            select(*_COLUMNS)
            .where(Record.batch_id == batch_id, Record.row_number > last)
            .order_by(Record.row_number)
            .limit(CHUNK)
        )
        with database.reading() as connection:
            records = connection.execute(page).all()
            until = records[-1].row_number if len(records) == CHUNK else _LAST_ROW
            rows = {record.row_number: _Verified(record.row_number, record) for record in records}
            rows |= _read_taken_over(connection, batch_id, last + 1, until)
        yield from (rows[number] for number in sorted(rows))
        last = until


def _read_taken_over(connection: Connection, batch_id: int, first: int, last: int) -> dict[int, _Verified]:
    """Read the records that took over from the rows of the batch between these two, by their row numbers here."""
    found = read_successors(connection, batch_id, first, last)
    later = select(*_COLUMNS).where(Record.id.in_([successor.later_id for successor in found.values()]))
    records = {record.id: record for record in connection.execute(later)} if found else {}
    return {
        number: _Verified(number, records[successor.later_id], successor.name) for number, successor in found.items()
    }
