"""Whose turn it is to be prepared: one worker at a time prepares a batch, for some seconds, then another batch has its
turn."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select, text, update

from models.batch import Batch, BatchState
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.database.engine import Database

# Seconds after which a worker that prepares a batch is taken for dead; each part of the work renews it.
LEASE = 180.0


class TurnLost(Exception):
    """No further call may start: the batch does not run any more, or another worker prepares it."""


class Turns:
    """The turns of all batches, in the database; thread-safe. A thread has one turn at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = threading.local()
        self._is_free = or_(Batch.prepared_until.is_(None), Batch.prepared_until <= database.now())
        self._next = (
            select(Batch.id)
            .where(Batch.state == BatchState.RUNNING, self._is_free, or_(_lacks(LACKS_USER), _lacks(LACKS_TOKEN)))
            .order_by(Batch.prepared_until.asc().nulls_first(), Batch.id)
            .limit(1)
        )

    def begin(self) -> Row[*tuple[Any, ...]] | None:
        """Take the batch that has waited longest, of those that have something to prepare; None: there is none."""
        columns = (Batch.id, Batch.environment, Batch.environment_id, Batch.may_import, Batch.prepared_until)
        with self._database.reading() as connection:
            batch_id = connection.scalar(self._next)
        if batch_id is None:
            return None
        with self._database.writing() as connection:
            mine = update(Batch).where(Batch.id == batch_id, Batch.state == BatchState.RUNNING, self._is_free)
            taken = mine.values(prepared_until=self._database.now(LEASE)).returning(*columns)
            batch = connection.execute(taken).one_or_none()
        if batch is not None:
            self._thread.held_until = batch.prepared_until
        return batch

    def renew(self, batch_id: int) -> bool:
        """Keep the batch for this worker. False: the batch does not run any more, or another worker prepares it."""
        with self._database.writing() as connection:
            mine = update(Batch).where(self._is_held(batch_id), Batch.state == BatchState.RUNNING)
            renewed = mine.values(prepared_until=self._database.now(LEASE)).returning(Batch.prepared_until)
            held_until = connection.scalar(renewed)
        if held_until is not None:
            self._thread.held_until = held_until
        return held_until is not None

    def check(self, batch_id: int) -> None:
        """Keep the batch for this worker. Raises TurnLost."""
        if not self.renew(batch_id):
            raise TurnLost

    def end(self, batch_id: int, wait: float) -> None:
        """Let others prepare the batch, in `wait` seconds, unless one does already."""
        with self._database.writing() as connection:
            until = self._database.now(wait)
            connection.execute(update(Batch).where(self._is_held(batch_id)).values(prepared_until=until))

    def _is_held(self, batch_id: int) -> ColumnElement[bool]:
        """Whether this thread has the turn of a batch. Another takes it only when its time is over, and then has it for
        longer than this one had."""
        held_until: datetime = self._thread.held_until
        return and_(Batch.id == batch_id, Batch.prepared_until <= held_until)


def _lacks(condition: str) -> Any:
    """Whether a batch has a record to which this condition applies."""
    return select(Record.id).where(Record.batch_id == Batch.id, text(condition)).limit(1).correlate(Batch).exists()
