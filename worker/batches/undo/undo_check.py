"""Whether a batch may be undone: nobody may be at work on it meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from sqlalchemy import Connection

from models.batch import Batch, BatchState
from models.reason import PASSING
from worker.batches.commands import NotPossible
from worker.batches.finding import find_batch, has_unfinished
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.leases.queue import Queue
from worker.leases.undoing import count_in_hand
from worker.observability.counting import agree, count_things


@dataclass(frozen=True, slots=True)
class UndoneBatch:
    """A batch that may be undone. `stop`: the command that ends the work on it, where there is some."""

    id: int
    name: str
    stop: str


class UndoCheck:
    """Asks whether batches may be undone. `settings`: those of the workers, which say when a call of a worker that died
    is over."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._queue = Queue(database, lease=settings.lease, over_after=settings.over_after)

    def require_rest(self, name: str, *, is_whole: bool = True) -> UndoneBatch:
        """Find the batch if nobody works on it; records of workers that died are taken from them before. `is_whole`:
        all of it is to be undone, so that nothing of it need go on. Raises UnknownBatch; NotPossible, whose message
        says what to do."""
        with self._database.changing_many() as connection:
            # Where no worker is left, nobody else does it.
            self._queue.rescue(connection)
            return self._find(connection, name, "cancel" if is_whole else "pause")

    def require_rest_within(self, connection: Connection, batch: UndoneBatch) -> None:
        """Find out, within a transaction, whether still nobody works on the batch. Raises NotPossible."""
        self._find(connection, batch.name, batch.stop)

    def _find(self, connection: Connection, name: str, stop: str) -> UndoneBatch:
        batch = find_batch(connection, name, Batch.id, Batch.state, Batch.reason)
        first = f"`oathbulk {stop} {quote(name)}` first"
        is_unfinished = has_unfinished(connection, batch.id)
        if batch.state == BatchState.RUNNING and is_unfinished:
            raise NotPossible(f"batch {name!r} runs: {first}")
        if batch.state == BatchState.PAUSED and batch.reason in PASSING and is_unfinished:
            raise NotPossible(f"batch {name!r} is paused and goes on by itself ({batch.reason}): {first}")
        if in_hand := count_in_hand(self._database, connection, batch.id):
            are, calls_have = agree(in_hand, "is", "are"), agree(in_hand, "its call has", "their calls have")
            raise NotPossible(
                f"{count_things(in_hand, 'record')} of batch {name!r} {are} in hand: wait until {calls_have} ended (a "
                "minute at most), then give the command again"
            )
        return UndoneBatch(batch.id, name, stop)
