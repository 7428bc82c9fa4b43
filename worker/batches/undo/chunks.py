"""Takes the records that are to be unpaired chunk by chunk, and keeps workers from them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from models.record import Record
from worker.batches.undo.other_batches import find_batch_with_device
from worker.batches.undo.standing import Standing, UndoneBatch
from worker.database.engine import Database
from worker.leases.undoing import KeptRecord, keep_from_work, let_go

# Records that are worked on before the batch is looked at again.
CHUNK = 200
# Seconds after which workers take records again that a killed command kept: many times what a chunk takes.
KEPT_FOR = 600.0

_COLUMNS = (
    Record.id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.device_id,
    Record.owner_id,
    Record.pairing_began_at,
    Record.otp_sent_at,
)


class Chunks:
    """Records of one batch in chunks. Where `is_real`, they are to be changed: then workers are kept from those that
    are pending, until `let_go`."""

    def __init__(self, database: Database, standing: Standing, batch: UndoneBatch, *, is_real: bool) -> None:
        self._database = database
        self._standing = standing
        self._batch = batch
        self._is_real = is_real
        self._kept = list[KeptRecord]()

    def take(self, condition: ColumnElement[bool]) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
        """Go through the records for which the condition is true, in the file's order. Raises NotPossible where
        somebody works on the batch by now: a person may have resumed it."""
        last = -1
        while chunk := self._take_after(last, condition):
            yield chunk
            last = chunk[-1].row_number

    def let_go(self) -> None:
        """Let workers take the records again that were kept from them and are pending still, at the time at which they
        were due before."""
        with self._database.changing_many() as connection:
            let_go(connection, self._kept)

    def _take_after(self, row_number: int, condition: ColumnElement[bool]) -> Sequence[Row[*tuple[Any, ...]]]:
        mine = select(*_COLUMNS, find_batch_with_device()).where(
            Record.batch_id == self._batch.id, Record.row_number > row_number, condition
        )
        mine = mine.order_by(Record.row_number).limit(CHUNK)
        if not self._is_real:
            with self._database.reading() as connection:
                return connection.execute(mine).all()
        with self._database.changing_many() as connection:
            self._standing.require_rest_within(connection, self._batch.name)
            chunk = connection.execute(mine).all()
            kept = keep_from_work(self._database, connection, [record.id for record in chunk], KEPT_FOR)
        self._kept += kept
        return chunk
