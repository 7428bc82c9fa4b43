"""Imports the tokens of a batch into PingOne's inventory, many to a job. A job is written down before its request goes
out, then with PingOne's id of it, then with its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, select, text, update

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import LONGEST_DETAIL, UNFINISHED, InventoryJob, JobKind, JobState, counted_from
from models.reason import Reason
from models.record import Record
from models.record_states import NOBODY
from worker.batches.preparation import next_job
from worker.batches.preparation.inventory import LONGEST_JOB
from worker.batches.preparation.turns import Turn
from worker.database.engine import Database
from worker.leases.giving_up import give_up
from worker.leases.moves import LAST_START, is_running
from worker.pingone.inventory import ImportJob, NewToken


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
            (counted_from() < database.now(-answer_within)).label("is_unanswered"),
            (counted_from() < database.now(-LONGEST_JOB.total_seconds())).label("is_too_old"),
        ).where(text(UNFINISHED))
        self._now = now
        self._is_running = is_running(database)
        # Near their end, its result would hardly be asked for before the hours begin again.
        self._may_begin = is_running(database, LAST_START)

    def find_unfinished(self, batch_id: int) -> Row[*tuple[Any, ...]] | None:
        """Find the job of a batch whose result is not written down; there is one at the most."""
        mine = self._unfinished.where(InventoryJob.batch_id == batch_id, InventoryJob.kind == JobKind.IMPORT)
        with self._database.reading() as connection:
            return connection.execute(mine.order_by(InventoryJob.id)).first()

    def begin(self, turn: Turn, *, is_whole: bool) -> StartedJob | None:
        """Write the next job down, as sent. None if no token is to be imported, or with `is_whole` not yet as many as a
        job may have, or if the batch does not run any more. Records that bring no seed are given up, since nothing of
        theirs can be imported."""
        with self._database.changing_many() as connection:
            # Asked in this transaction, so that no job begins once a pause is committed: an undo relies on it.
            if connection.scalar(select(Batch.id).where(Batch.id == turn.batch_id, self._may_begin)) is None:
                return None
            size = next_job.choose_job_size(connection, turn.batch_id, self._most_tokens)
            rows = next_job.read_rows(connection, turn, size)
            if is_whole and len(rows) < size:
                return None
            tokens = {row.id: token for row in rows if (token := next_job.make_token(self._keyring, row))}
            without_seed = [row.id for row in rows if row.id not in tokens]
            give_up(self._database, connection, without_seed, Reason.TOKEN_NOT_IN_INVENTORY)
            if not tokens:
                return None
            values = {"batch_id": turn.batch_id, "kind": JobKind.IMPORT, "state": JobState.SENT, "size": len(tokens)}
            job_id = connection.scalar(
                insert(InventoryJob).values(values | {"sent_at": self._now}).returning(InventoryJob.id)
            )
            assert job_id is not None  # noqa: S101
            mine = update(Record).where(Record.id.in_(list(tokens)))
            connection.execute(mine.values(import_job_id=job_id))
            return StartedJob(job_id, list(tokens.values()))

    def mark_sent_again(self, job: int) -> bool:
        """Write down that the request of a job goes out now: an answer to it may come later than was thought. False:
        the batch does not run any more, or another worker took over and called the job lost."""
        may_go = exists().where(Batch.id == InventoryJob.batch_id, self._is_running)
        with self._database.writing() as connection:
            mine = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT, may_go)
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

    def note_refused(self, job: int, said: str) -> None:
        """Write down that PingOne refused a job, and what it said: its tokens go again, fewer at a time; one that stood
        alone is given up."""
        with self._database.changing_many() as connection:
            if not self._end(connection, job, JobState.FAILED, detail=said[:LONGEST_DETAIL]):
                return
            mine = connection.scalars(select(Record.id).where(Record.import_job_id == job)).all()
            if len(mine) == 1:
                give_up(self._database, connection, mine, Reason.TOKEN_REFUSED, f"PingOne said: {said}")
            _release(connection, job)

    def find_refusal(self, batch_id: int) -> str | None:
        """Find what PingOne said last where it refused one token after the other, each by itself; None where it did
        not."""
        with self._database.reading() as connection:
            return next_job.find_refusal(connection, batch_id)

    def note_lost(self, batch_id: int, job: int) -> None:
        """Write down that nobody will hear of a job's result: the inventory has to be read to see what came of it."""
        with self._database.changing_many() as connection:
            if self._end(connection, job, JobState.LOST):
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))

    def note_done(self, batch_id: int, job: int, result: ImportJob) -> Sequence[str]:
        """Write down the result of a job that PingOne has done. Its tokens are there, and ours, but for those that were
        there before; returns the serial numbers of these, as our records have them: they have to be compared. The
        inventory is read again before the next job, and at once where the counts do not add up."""
        duplicates = {serial.lower() for serial in result.duplicates}
        with self._database.changing_many() as connection:
            unfinished = select(InventoryJob.size).where(InventoryJob.id == job, text(UNFINISHED))
            size = connection.scalar(unfinished)
            if size is None:
                return ()
            mine = update(Record).where(Record.import_job_id == job)
            is_duplicate = func.lower(Record.serial_number).in_(duplicates)
            there_before = select(Record.serial_number).where(Record.import_job_id == job, is_duplicate)
            serial_numbers = connection.scalars(there_before).all()
            # What was there before is not ours, whatever else the result says. One that is not compared, since this
            # process dies, must be found before it goes into a job again, of which the answer might get lost.
            connection.execute(mine.where(is_duplicate).values(import_job_id=None))
            if result.created == 0:
                connection.execute(mine.values(import_job_id=None))
            are_all_named = len(serial_numbers) == len(duplicates)
            adds_up = are_all_named and result.created is not None and result.created + len(duplicates) == size
            if duplicates or not adds_up:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))
            if not adds_up:
                self._end(connection, job, JobState.LOST, detail="created and duplicates do not add up")
                return ()
            connection.execute(mine.values(is_in_inventory=True, is_token_made=True, owner_id=NOBODY))
            self._end(connection, job, JobState.DONE, done=result.created, duplicates=len(duplicates))
            return serial_numbers

    def give_up_all(self, turn: Turn) -> int:
        """Give up the records whose token is not in the inventory, where nothing may be imported. Returns how many."""
        count = 0
        with self._database.changing_many() as connection:
            lacking = select(Record.id).where(*next_job.lacks_token(turn)).limit(1000)
            while ids := connection.scalars(lacking).all():
                count += give_up(self._database, connection, ids, Reason.TOKEN_NOT_IN_INVENTORY)
        return count

    def _end(self, connection: Connection, job: int, state: JobState, **values: Any) -> bool:
        """End a job. False: it has ended before, since another worker took over meanwhile; then nothing follows."""
        ended = update(InventoryJob).where(InventoryJob.id == job, text(UNFINISHED))
        return connection.execute(ended.values(state=state, ended_at=self._now, **values)).rowcount == 1


def _release(connection: Connection, job: int) -> None:
    """Let the tokens of a job go again that are not in the inventory."""
    mine = update(Record).where(Record.import_job_id == job, ~Record.is_in_inventory)
    connection.execute(mine.values(import_job_id=None))
