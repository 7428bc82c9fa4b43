"""Whose turn it is to be prepared: one worker at a time prepares a batch, for some seconds, then another batch has its
turn."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, text, update

from models.batch import Batch
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.database.engine import Database
from worker.leases.moves import is_running

# Seconds after which a worker that prepares a batch is taken for dead. Each try of a call renews it; whoever waits for
# longer, for the end of a hold, may lose the turn meanwhile and then sends nothing.
LEASE = 60.0
# Higher than the number of any row.
LAST_ROW = 2**31 - 1
# The last row of a batch that its canary and its trial let go.
_LAST_LET_GO = case(
    (Batch.canary_row < Batch.trial_row, Batch.canary_row),
    else_=func.coalesce(Batch.trial_row, Batch.canary_row, LAST_ROW),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The batch that a worker prepares for a while: only its rows up to `last_row`, during a canary or a trial.
    `is_probing`: PingOne did not answer lately, and the batch runs to see whether it is back."""

    batch_id: int
    environment: str
    environment_id: str
    may_import: bool
    last_row: int = LAST_ROW
    is_probing: bool = False


class TurnLost(Exception):
    """No further call may start: the batch does not run any more, or another worker prepares it."""


class Turns:
    """The turns of all batches, in the database; thread-safe. A thread has one turn at a time. `only_batch`: the id of
    the one whose turns begin here; None: all have theirs."""

    def __init__(self, database: Database, only_batch: int | None = None) -> None:
        self._database = database
        self._thread = threading.local()
        self._is_free = or_(Batch.prepared_until.is_(None), Batch.prepared_until <= database.now())
        self._is_running = is_running(database)
        self._next = (
            select(Batch.id)
            .where(self._is_running, self._is_free, or_(_lacks(LACKS_USER), _lacks(LACKS_TOKEN)))
            .order_by(Batch.prepared_until.asc().nulls_first(), Batch.id)
            .limit(1)
        )
        if only_batch is not None:
            self._next = self._next.where(Batch.id == only_batch)

    def begin(self) -> Turn | None:
        """Take the batch that has waited longest, of those that have something to prepare; None: there is none."""
        columns = (Batch.id, Batch.environment, Batch.environment_id, Batch.may_import, _LAST_LET_GO, Batch.outages > 0)
        with self._database.reading() as connection:
            batch_id = connection.scalar(self._next)
        if batch_id is None:
            return None
        with self._database.writing() as connection:
            mine = update(Batch).where(Batch.id == batch_id, self._is_running, self._is_free)
            taken = mine.values(prepared_until=self._database.now(LEASE)).returning(Batch.prepared_until, *columns)
            row = connection.execute(taken).one_or_none()
        if row is None:
            return None
        self._thread.held_until, *batch = row
        return Turn(*batch)

    def renew(self, batch_id: int) -> bool:
        """Keep the batch for this worker. False: the batch does not run any more, or another worker prepares it."""
        with self._database.writing() as connection:
            mine = update(Batch).where(self._is_held(batch_id), self._is_running)
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

    def end_all(self) -> None:
        """End every turn, whose workers have all ended or lose it now."""
        with self._database.writing() as connection:
            connection.execute(update(Batch).where(Batch.prepared_until.is_not(None)).values(prepared_until=None))

    def _is_held(self, batch_id: int) -> ColumnElement[bool]:
        """Whether this thread has the turn of a batch. Another takes it only when its time is over, or was ended, and
        then has it for longer than this one had."""
        held_until: datetime = self._thread.held_until
        return and_(Batch.id == batch_id, Batch.prepared_until <= held_until)


def _lacks(condition: str) -> Any:
    """Whether a batch has a record to which this condition applies, in the rows that may go."""
    mine = select(Record.id).where(Record.batch_id == Batch.id, text(condition), Record.row_number <= _LAST_LET_GO)
    return mine.limit(1).correlate(Batch).exists()
