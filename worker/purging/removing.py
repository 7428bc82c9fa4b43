"""Removes the records of a purged batch, chunk by chunk, and puts in place of each what recognises its token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select

from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import InventoryJob
from models.notice import Notice
from models.past_token import PastToken
from models.record import Record
from models.record_states import Status
from models.refused_row import RefusedRow
from worker.batches.conflicts import TokenPrints, open_found
from worker.database.engine import Database
from worker.vault.fingerprints import make_fingerprints
from worker.vault.otp import OtpPair

# Records that one transaction removes: they are locked for some hundredths of a second.
CHUNK = 1000

_COLUMNS = (
    *(Record.id, Record.batch_id, Record.row_number, Record.environment_id, Record.serial_number, Record.device_id),
    *(Record.status, Record.otps, Record.otp1_posts, Record.otp2_posts, Record.posts_forgiven, Record.next_counter),
)


def find_left(connection: Connection) -> Sequence[Row[int, str]]:
    """Find the purged batches of which records are left, since a purge was interrupted: id and name."""
    has_record = exists().where(Record.batch_id == Batch.id).correlate(Batch)
    return connection.execute(select(Batch.id, Batch.name).where(Batch.purged_at.is_not(None), has_record)).all()


def count_left(connection: Connection, batch_id: int) -> int:
    """Count the records that are left of a batch."""
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id)) or 0


def remove_all_but_records(connection: Connection, batch_id: int) -> None:
    """Remove what a batch keeps beside its records: its refused rows, its jobs in PingOne's inventory, and the notices
    about it."""
    for table in (RefusedRow, InventoryJob, Notice):
        connection.execute(delete(table).where(table.batch_id == batch_id))


class Removing:
    """Removes the records of purged batches."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def remove(self, batch_id: int) -> Iterator[int]:
        """Remove the records of a batch with their attempts. Yields after each transaction how many records went. What
        is committed is gone; called again, it goes on."""
        while removed := self._remove_chunk(batch_id):
            yield removed

    def _remove_chunk(self, batch_id: int) -> int:
        with self._database.writing() as connection:
            mine = select(*_COLUMNS).where(Record.batch_id == batch_id).order_by(Record.row_number).limit(CHUNK)
            records = connection.execute(mine.with_for_update()).all()
            if not records:
                return 0
            prints = TokenPrints(make_fingerprints(connection, self._keyring), records[0].environment_id)
            kept = [self._describe(record, prints) for record in records if _has_to_be_known(record)]
            if kept:
                connection.execute(insert(PastToken), kept)
            ids = [record.id for record in records]
            connection.execute(delete(AttemptLine).where(AttemptLine.record_id.in_(ids)))
            connection.execute(delete(Record).where(Record.id.in_(ids)))
        return len(records)

    def _describe(self, record: Row[*tuple[Any, ...]], prints: TokenPrints) -> dict[str, Any]:
        """Describe a token by its fingerprints, as a row of the table `past_token`."""
        source = open_found(self._keyring, record)
        pair = source if isinstance(source, OtpPair) else None
        first = pair.first if pair and record.otp1_posts else None
        second = pair.second if pair and record.otp2_posts else None
        return {
            "batch_id": record.batch_id,
            "is_active": record.status == Status.ACTIVE,
            "serial_number": prints.of_serial_number(record.serial_number),
            "device_id": prints.of_device(record.device_id) if record.device_id else None,
            "otp1": prints.of_otp(record.serial_number, first) if first else None,
            "otp2": prints.of_otp(record.serial_number, second) if second else None,
            "next_counter": record.next_counter,
        }


def _has_to_be_known(record: Row[*tuple[Any, ...]]) -> bool:
    """Whether the token has to be recognised if it is loaded again: it is active, an OTP of it was sent, or its counter
    has moved."""
    was_sent = record.otp1_posts or record.otp2_posts or record.posts_forgiven
    return bool(record.status == Status.ACTIVE or was_sent or record.next_counter is not None)
