"""Imports the tokens of a batch into PingOne's inventory, many to a job. A job is written down before its request goes
out, then with PingOne's id of it, then with its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, text, update

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import UNFINISHED, InventoryJob, JobKind, JobState
from models.reason import Reason
from models.record import NOBODY, Record
from models.record_indexes import LACKS_TOKEN
from worker.database.engine import Database
from worker.leases.giving_up import give_up
from worker.pingone.import_jobs import ImportJob, NewToken
from worker.rules.import_size import choose_size
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

# Seconds after which a job that still runs counts as lost: its tokens are looked for in the inventory.
LONGEST_JOB = 600.0

_IS_RUNNING = select(Batch.id).where(Batch.id == bindparam("of_batch"), Batch.state == BatchState.RUNNING)


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that is written down: its row, and the tokens that its request is to bring."""

    id: int
    tokens: list[NewToken]


class Imports:
    """The import jobs of batches. `most_tokens`: tokens of a job at most. `answer_within`: seconds after which no
    answer to a job's request comes any more, and PingOne is done with it."""

    def __init__(self, database: Database, keyring: Keyring, *, most_tokens: int, answer_within: float) -> None:
        self._database = database
        self._keyring = keyring
        self._most_tokens = most_tokens
        now = database.now()
        self._unfinished = select(
            InventoryJob.id,
            InventoryJob.job_id,
            InventoryJob.state,
            InventoryJob.size,
            (InventoryJob.sent_at < database.now(-answer_within)).label("is_unanswered"),
            (InventoryJob.sent_at < database.now(-LONGEST_JOB)).label("is_too_old"),
        ).where(text(UNFINISHED))
        self._now = now

    def find_unfinished(self, batch_id: int) -> Row[*tuple[Any, ...]] | None:
        """Find the job of a batch whose result is not written down; there is one at the most."""
        mine = self._unfinished.where(InventoryJob.batch_id == batch_id, InventoryJob.kind == JobKind.IMPORT)
        with self._database.reading() as connection:
            return connection.execute(mine.order_by(InventoryJob.id)).first()

    def begin(self, batch_id: int, *, is_whole: bool) -> StartedJob | None:
        """Write the next job down, as sent. None if no token is to be imported, or with `is_whole` not yet as many as a
        job may have, or if the batch does not run any more. Records that bring no seed are given up, since nothing of
        theirs can be imported."""
        with self._database.changing_many() as connection:
            # Asked in this transaction, so that no job begins once a pause is committed: an undo relies on it.
            if not connection.scalar(_IS_RUNNING, {"of_batch": batch_id}):
                return None
            size = self._choose_size(connection, batch_id)
            rows = self._read_rows(connection, batch_id, size)
            if is_whole and len(rows) < size:
                return None
            tokens = [(row.id, token) for row in rows if (token := self._make_token(row))]
            without_seed = [row.id for row in rows if row.id not in {record_id for record_id, _ in tokens}]
            give_up(self._database, connection, without_seed, Reason.TOKEN_NOT_IN_INVENTORY)
            if not tokens:
                return None
            values = {"batch_id": batch_id, "kind": JobKind.IMPORT, "state": JobState.SENT, "size": len(tokens)}
            job_id = connection.scalar(
                insert(InventoryJob).values(values | {"sent_at": self._now}).returning(InventoryJob.id)
            )
            assert job_id is not None  # noqa: S101
            mine = update(Record).where(Record.id.in_([record_id for record_id, _ in tokens]))
            connection.execute(mine.values(import_job_id=job_id))
            return StartedJob(job_id, [token for _, token in tokens])

    def mark_sent_again(self, job: int) -> bool:
        """Write down that the request of a job goes out now: an answer to it may come later than was thought. False:
        another worker took over, and called the job lost."""
        with self._database.writing() as connection:
            mine = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
            return connection.execute(mine.values(sent_at=self._now)).rowcount == 1

    def note_started(self, job: int, pingone_id: str) -> None:
        """Write down the id that PingOne gave to a job."""
        with self._database.writing() as connection:
            values = {"job_id": pingone_id, "state": JobState.RUNNING}
            # Another worker may have called it lost meanwhile.
            mine = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
            connection.execute(mine.values(values))

    def take_back(self, job: int) -> None:
        """Forget a job whose request did not go out, or on which PingOne did not act: its tokens go again."""
        with self._database.changing_many() as connection:
            # Not deleted, since a later one is chosen by how the last one ended.
            if self._end(connection, job, JobState.LOST, done=0):
                _release(connection, job)

    def note_refused(self, job: int, detail: str) -> None:
        """Write down that PingOne refused a job: its tokens go again, fewer at a time; one that stood alone is given
        up."""
        with self._database.changing_many() as connection:
            if not self._end(connection, job, JobState.FAILED, detail=detail):
                return
            mine = connection.scalars(select(Record.id).where(Record.import_job_id == job)).all()
            if len(mine) == 1:
                give_up(self._database, connection, mine, Reason.TOKEN_REFUSED)
            _release(connection, job)

    def note_lost(self, batch_id: int, job: int, detail: str | None = None) -> None:
        """Write down that nobody will hear of a job's result: the inventory has to be read to see what came of it."""
        with self._database.changing_many() as connection:
            if self._end(connection, job, JobState.LOST, detail=detail):
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))

    def note_done(self, batch_id: int, job: int, result: ImportJob) -> Sequence[str]:
        """Write down the result of a job that PingOne has done. Its tokens are there, and ours, but for those that were
        there before; returns their serial numbers: they have to be compared. Where the counts do not add up, the
        inventory is read instead."""
        duplicates = {serial.lower() for serial in result.duplicates}
        with self._database.changing_many() as connection:
            unfinished = select(InventoryJob.size).where(InventoryJob.id == job, text(UNFINISHED))
            size = connection.scalar(unfinished)
            if size is None:
                return ()
            mine = update(Record).where(Record.import_job_id == job)
            # What was there before is not ours, whatever else the result says.
            connection.execute(mine.where(func.lower(Record.serial_number).in_(duplicates)).values(import_job_id=None))
            if result.created is None or result.created + len(duplicates) != size:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))
                self._end(connection, job, JobState.LOST, detail="created and duplicates do not add up")
                return ()
            connection.execute(mine.values(is_in_inventory=True, is_token_made=True, owner_id=NOBODY))
            self._end(connection, job, JobState.DONE, done=result.created, duplicates=len(duplicates))
            return result.duplicates

    def give_up_all(self, batch_id: int) -> None:
        """Give up the records whose token is not in the inventory, where nothing may be imported."""
        with self._database.changing_many() as connection:
            lacking = select(Record.id).where(Record.batch_id == batch_id, text(LACKS_TOKEN)).limit(1000)
            while ids := connection.scalars(lacking).all():
                give_up(self._database, connection, ids, Reason.TOKEN_NOT_IN_INVENTORY)

    def _choose_size(self, connection: Connection, batch_id: int) -> int:
        """Choose how many tokens the next job of a batch imports, by how the last one ended."""
        ended = select(InventoryJob.state, InventoryJob.size).where(
            InventoryJob.batch_id == batch_id, InventoryJob.kind == JobKind.IMPORT, InventoryJob.state != JobState.LOST
        )
        last = connection.execute(ended.order_by(InventoryJob.id.desc())).first()
        return choose_size(last and last.state, last.size if last else 0, self._most_tokens)

    def _read_rows(self, connection: Connection, batch_id: int, size: int) -> Sequence[Row[*tuple[Any, ...]]]:
        columns = (Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.otps)
        lacking = select(*columns).where(Record.batch_id == batch_id, text(LACKS_TOKEN), Record.import_job_id.is_(None))
        return connection.execute(lacking.order_by(Record.row_number).limit(size)).all()

    def _make_token(self, row: Row[*tuple[Any, ...]]) -> NewToken | None:
        """Make a token of a record's seed; None if it has a pair of OTPs."""
        seed = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        if not isinstance(seed, Seed):
            return None
        return NewToken(
            serial_number=row.serial_number,
            secret=seed.secret,
            otp_type=seed.otp_type,
            digits=seed.digits,
            hash_algorithm=seed.hash_algorithm,
            time_step=seed.time_step,
            counter=seed.counter if seed.otp_type == "hotp" else None,
            row_number=row.row_number,
        )

    def _end(self, connection: Connection, job: int, state: JobState, **values: Any) -> bool:
        """End a job. False: it has ended before, since another worker took over meanwhile; then nothing follows."""
        ended = update(InventoryJob).where(InventoryJob.id == job, text(UNFINISHED))
        return connection.execute(ended.values(state=state, ended_at=self._now, **values)).rowcount == 1


def _release(connection: Connection, job: int) -> None:
    """Let the tokens of a job go again that are not in the inventory."""
    mine = update(Record).where(Record.import_job_id == job, ~Record.is_in_inventory)
    connection.execute(mine.values(import_job_id=None))
