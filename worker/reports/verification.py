"""Verification: every device of a batch is read back from PingOne, and its tokens, and compared with the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from sqlalchemy import Row, func, select

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

# Reads that are under way or wait for their slot; bounds the memory whatever the batch's size.
CHUNK = 500
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
    be read (`is_known` is False, and `theirs` says why)."""

    row_number: int
    serial_number: str
    ours: str
    theirs: str
    is_known: bool = True


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
        total = connection.scalar(select(func.count()).where(Record.batch_id == batch_id)) or 0
    if tokens is not None:
        tokens.read(database, batch_id)
    on_progress(READING, 0, total)
    with ThreadPoolExecutor(threads) as pool:
        records, done = _read_pages(database, batch_id), count(1)
        while chunk := list(islice(records, CHUNK)):
            answers = _read_devices(pool, read, chunk, lambda: on_progress(READING, next(done), total))
            for record, answer in zip(chunk, answers, strict=True):
                if difference := compare(record, answer) or _compare_token(record, tokens):
                    yield difference


def _read_devices(
    pool: ThreadPoolExecutor, read: Read, records: Sequence[Row[*tuple[Any, ...]]], on_read: Callable[[], None]
) -> list[Answer | None]:
    """Read the devices of these records; the answers come in their order. `on_read` is called after each read,
    whichever it was: one that gets its slot late would otherwise hide how many others are done."""
    reads = [pool.submit(_read, read, record) for record in records]
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


def _read_pages(database: Database, batch_id: int) -> Iterator[Row[*tuple[Any, ...]]]:
    """Read the batch's records page by page, so that no transaction is open while the network is used."""
    last = -1
    while True:
        page = (
            select(*_COLUMNS)
            .where(Record.batch_id == batch_id, Record.row_number > last)
            .order_by(Record.row_number)
            .limit(CHUNK)
        )
        with database.reading() as connection:
            records = connection.execute(page).all()
        if not records:
            return
        yield from records
        last = records[-1].row_number
