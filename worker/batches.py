"""The story of a batch: what persons, and the breaker, do with it as a whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import aliased

from models.batch import Batch, BatchState
from models.reason import PAUSE_CURES, TRANSIENT, PauseReason, Reason
from models.record import Record, Status
from worker import breaker
from worker.database import Database
from worker.leases import commands


class UnknownBatch(Exception):
    """No batch has this name; the message lists those that there are."""


class NotPossible(Exception):
    """The batch is in a state that does not allow the command; the message says what does."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many records are pending again, and how many dead letters stay because their OTPs are used, or because
    their token was loaded again since."""

    records: int
    need_fresh_otps: int


class Batches:
    """Commands on batches; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self, name: str, detail: str | None = None) -> int:
        """No new call starts. How many records went back from the queue. Raises UnknownBatch, NotPossible."""
        with self._database.changing_many() as connection:
            batch = self._find(connection, name)
            if batch.state == BatchState.CANCELLED:
                raise NotPossible(f"batch {name!r} is cancelled: nothing of it runs")
            self._set_paused(connection, batch.id, PauseReason.PERSON, detail or PAUSE_CURES[PauseReason.PERSON])
            return commands.hand_back_queued(self._database, connection, batch.id)

    def pause_by_itself(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """A worker or the dispatcher found what only a person can mend. False if it did not run any more."""
        with self._database.writing() as connection:
            return self._set_paused(connection, batch_id, reason, detail or PAUSE_CURES[reason])

    def hand_back(self, name: str) -> int:
        """What waits in the queue waits in the database again: no worker will take it. Raises UnknownBatch."""
        with self._database.changing_many() as connection:
            return commands.hand_back_queued(self._database, connection, self._find(connection, name).id)

    def resume(self, name: str) -> None:
        """Raises UnknownBatch, NotPossible."""
        with self._database.writing() as connection:
            batch = self._find(connection, name)
            if batch.state == BatchState.CANCELLED:
                raise NotPossible(f"batch {name!r} is cancelled: `oathbulk replay {name}` makes it run again")
            if batch.state == BatchState.PAUSED:
                self._set_running(connection, batch.id)

    def cancel(self, name: str) -> int:
        """How many records were cancelled at once; those in work follow when their call ends. Raises UnknownBatch."""
        with self._database.changing_many() as connection:
            batch = self._find(connection, name)
            cancelled = {"state": BatchState.CANCELLED, "reason": None, "detail": None}
            connection.execute(update(Batch).where(Batch.id == batch.id).values(cancelled))
            return commands.cancel(self._database, connection, batch.id)

    def replay(self, name: str, reasons: Collection[Reason] | None = None) -> Replayed:
        """Dead letters of these reasons, or all of them and what was cancelled, go again. Raises UnknownBatch,
        NotPossible."""
        with self._database.changing_many() as connection:
            batch = self._find(connection, name)
            if batch.state == BatchState.CANCELLED and (successor := self._successor(connection, batch.id)):
                raise NotPossible(f"the file of batch {name!r} was loaded again: `oathbulk replay {successor}`")
            count = commands.replay(self._database, connection, batch.id, reasons)
            left = select(func.count()).where(Record.batch_id == batch.id, Record.status == Status.DEAD_LETTER)
            if reasons is not None:
                left = left.where(Record.reason.in_(reasons))
            if count:
                self._set_running(connection, batch.id)
            return Replayed(count, connection.scalar(left) or 0)

    def replay_transient(self) -> int:
        """What the replay schedule does: dead letters that time alone may mend, of every batch that runs."""
        with self._database.changing_many() as connection:
            running = connection.scalars(select(Batch.id).where(Batch.state == BatchState.RUNNING)).all()
            return sum(commands.replay(self._database, connection, batch_id, TRANSIENT) for batch_id in running)

    def judge(self, batch_id: int) -> PauseReason | None:
        """Ask the breaker about what was settled since the batch began to run, and pause if it says so."""
        latest = (
            select(Record.reason)
            .join(Batch, Batch.id == Record.batch_id)
            .where(Record.batch_id == batch_id, Record.finalized_at > Batch.running_since)
            .order_by(Record.finalized_at.desc())
            .limit(breaker.LATEST)
        )
        with self._database.reading() as connection:
            reason = breaker.judge(connection.scalars(latest).all())
        if reason is not None:
            self.pause_by_itself(batch_id, reason)
        return reason

    def _find(self, connection: Connection, name: str) -> Row[int, str]:
        found = connection.execute(
            select(Batch.id, Batch.state).where(Batch.name == name).with_for_update()
        ).one_or_none()
        if found is None:
            names = connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(5)).all()
            known = f"the latest are {', '.join(names)}" if names else "nothing was loaded yet"
            raise UnknownBatch(f"no batch is named {name!r}: {known}")
        return found

    def _successor(self, connection: Connection, batch_id: int) -> str | None:
        """The batch that a cancelled one's file became when it was loaded again."""
        this = aliased(Batch)
        is_same_file = and_(this.environment_id == Batch.environment_id, this.file_sha256 == Batch.file_sha256)
        again = select(Batch.name).join(this, is_same_file).where(this.id == batch_id)
        return connection.scalar(again.where(Batch.state != BatchState.CANCELLED))

    def _set_paused(self, connection: Connection, batch_id: int, reason: PauseReason, detail: str) -> bool:
        paused = update(Batch).where(Batch.id == batch_id, Batch.state == BatchState.RUNNING)
        values = {"state": BatchState.PAUSED, "reason": reason, "detail": detail}
        result: CursorResult[tuple[()]] = connection.execute(paused.values(values))
        return result.rowcount == 1

    def _set_running(self, connection: Connection, batch_id: int) -> None:
        running = {
            "state": BatchState.RUNNING,
            "reason": None,
            "detail": None,
            "running_since": self._database.now(),
        }
        connection.execute(update(Batch).where(Batch.id == batch_id).values(running))
