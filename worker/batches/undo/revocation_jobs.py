"""Jobs that revoke tokens, as the database has them: written down before their request goes out, then with PingOne's id
of them, then with their end."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from models.inventory_job import UNFINISHED, InventoryJob, JobKind, JobState, counted_from
from worker.database.engine import Database


class RevocationJobs:
    """The rows of revocation jobs. `answer_within`: seconds after which no answer to a job's request comes any more,
    and PingOne is done with it."""

    def __init__(self, database: Database, answer_within: float) -> None:
        self._database = database
        self._is_unanswered = counted_from() < database.now(-answer_within)

    def begin(self, batch_id: int, size: int) -> int:
        """Write a job down, as sent. Returns the id of its row."""
        values = {"batch_id": batch_id, "kind": JobKind.REVOKE, "state": JobState.SENT, "size": size}
        written = insert(InventoryJob).values(values | {"sent_at": self._database.now()}).returning(InventoryJob.id)
        with self._database.writing() as connection:
            return connection.scalars(written).one()

    def mark_sent_again(self, connection: Connection, job: int) -> bool:
        """Write down, within a transaction, that the request of a job goes out now: an answer to it may come later than
        was thought. False: another command has called the job lost."""
        mine = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
        return connection.execute(mine.values(sent_at=self._database.now())).rowcount == 1

    def note_started(self, job: int, pingone_id: str) -> None:
        """Write down the id that PingOne gave to a job."""
        self._write(job, job_id=pingone_id, state=JobState.RUNNING)

    def end(self, job: int, state: JobState, *, done: int | None = None, detail: str | None = None) -> None:
        """Write down how a job ended."""
        self._write(job, state=state, done=done, detail=detail, ended_at=self._database.now())

    def find_unfinished(self, batch_id: int) -> Row[*tuple[Any, ...]] | None:
        """Find the first job of a batch whose end is not written down: an earlier command was killed meanwhile."""
        columns = (InventoryJob.id, InventoryJob.job_id, self._is_unanswered.label("is_unanswered"))
        mine = select(*columns).where(
            text(UNFINISHED), InventoryJob.batch_id == batch_id, InventoryJob.kind == JobKind.REVOKE
        )
        with self._database.reading() as connection:
            return connection.execute(mine.order_by(InventoryJob.id)).first()

    def _write(self, job: int, **values: Any) -> None:
        # Another command may have ended it meanwhile.
        mine = update(InventoryJob).where(InventoryJob.id == job, text(UNFINISHED))
        with self._database.writing() as connection:
            connection.execute(mine.values(values))
