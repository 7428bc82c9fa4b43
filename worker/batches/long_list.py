"""Works through a long list with PingOne: take a chunk, ask, write down, continue.

Such lists hold people to look up, tokens to import or revoke, and devices to remove or read back. Each is handled chunk
by chunk, and an answer that is written down is not requested again. So the work can stop at any moment, and the next
command or turn continues from there."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, text, update

from models.batch import Batch
from models.reason import PauseReason, Reason
from models.record import Record, is_among_first
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.database.engine import Database
from worker.leases.moves import give_up, is_running
from worker.observability.progress import OnProgress, tell_nobody

T = TypeVar("T")
A = TypeVar("A")


# Seconds after which a worker that prepares a batch counts as dead. Each try of a call renews the lease. A worker that
# waits longer than this for the end of a hold may lose its turn, and then sends nothing.
LEASE = 60.0


# The order in which records are prepared: given-out tokens come first, since their due time is before the load.
PREPARED_IN_ORDER = (Record.scheduled_at, Record.row_number)


class Superseded(Exception):
    """No further call may start: the batch no longer runs, or another worker has taken over its list."""


class Obstacle(Exception):
    """Something blocks the whole list. Its batch pauses for `reason`, and `cure` says what a person can do. `answer`:
    what PingOne said."""

    def __init__(self, reason: PauseReason, cure: str, answer: object = None) -> None:
        self.reason = reason
        self.cure = f"{cure} PingOne said: {answer}" if answer else cure
        super().__init__(self.cure)


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch that a worker prepares for a while. `first`: during a canary or a trial, the number of first records to
    prepare. `is_probing`: the batch runs to find out whether an outage is over."""

    batch_id: int
    environment: str
    environment_id: str
    may_import: bool
    first: int | None = None
    is_probing: bool = False


@dataclass(slots=True)
class Findings:
    """What PingOne's answers mean for some records: the columns to write (`found`), and the ids of records to give up,
    by reason and detail."""

    found: list[dict[str, Any]] = field(default_factory=list)
    given_up: dict[tuple[Reason, str], list[int]] = field(default_factory=dict)

    def give_up(self, database: Database, connection: Connection) -> None:
        """Make dead letters of the records to give up."""
        for (reason, detail), ids in self.given_up.items():
            give_up(database, connection, ids, reason, detail)


@dataclass(frozen=True, slots=True)
class LongList(Generic[T, A]):
    """A list of items about which to ask PingOne. `take` returns the next chunk, empty at the end of the list. `ask`
    asks about one item, and `write_down` commits its answer at once. `threads`: how many items to ask about at the same
    time. `size` says how many records or tokens an item covers; `auditing` surrounds each chunk."""

    take: Callable[[], Sequence[T]]
    ask: Callable[[T], A]
    write_down: Callable[[T, A], object]
    threads: int = 1
    size: Callable[[T], int] = lambda _: 1
    auditing: Callable[[], AbstractContextManager[None]] = nullcontext

    def advance(self, on_done: Callable[[int], object] = lambda _: None) -> bool:
        """Work on the next chunk; `on_done` gets the size of each finished item. False: nothing was left. After a
        failure, or Ctrl-C, no further call starts, but answers under way are awaited and written down. Raises whatever
        `ask` and `write_down` raise."""
        if not (chunk := self.take()):
            return False

        def note(thing: T, answer: A) -> None:
            self.write_down(thing, answer)
            on_done(self.size(thing))

        with self.auditing():
            if self.threads == 1:
                for thing in chunk:
                    note(thing, self.ask(thing))
            else:
                self._ask_at_once(chunk, note)
        return True

    def finish(self, on_progress: OnProgress = tell_nobody, what: str = "", total: int | None = None) -> None:
        """Work through the list to its end, and report progress unless the list is empty."""
        if total == 0:
            return
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            on_progress(what, done, total)

        on_progress(what, 0, total)
        while self.advance(count):
            pass

    def _ask_at_once(self, chunk: Sequence[T], note: Callable[[T, A], None]) -> None:
        pool = ThreadPoolExecutor(self.threads)
        asked = {pool.submit(self.ask, thing): thing for thing in chunk}

        def note_answer(answer: Future[A]) -> None:
            note(asked.pop(answer), answer.result())

        def note_others() -> None:
            for answer in [each for each in asked if not each.cancelled() and each.exception() is None]:
                note_answer(answer)

        # Answers are noted in a thread of their own: Ctrl-C interrupts only the main thread, which might write an
        # answer down without counting it.
        with ThreadPoolExecutor(1) as noting:
            try:
                for answer in as_completed(list(asked)):
                    noting.submit(note_answer, answer).result()
            finally:
                pool.shutdown(cancel_futures=True)
                noting.submit(note_others).result()


def taking(things: Iterable[T], size: int) -> Callable[[], Sequence[T]]:
    """Make a `take` for items that are all known in advance."""
    left = iter(things)
    return lambda: list(islice(left, size))


class Turns:
    """The turns of all batches, in the database; thread-safe. A thread has one turn at a time. `only_batch`: the id of
    the only batch that this process prepares; None: all batches."""

    def __init__(self, database: Database, only_batch: int | None = None) -> None:
        self._database = database
        self._thread = threading.local()
        self._is_free = or_(Batch.prepared_until.is_(None), Batch.prepared_until <= database.now())
        self._is_running = is_running(database)
        mine = select(Record.id).where(Record.batch_id == Batch.id).correlate(Batch)
        lacks = or_(mine.where(text(LACKS_USER)).exists(), mine.where(text(LACKS_TOKEN)).exists())
        self._next = (
            select(Batch.id, Batch.canary, Batch.trial)
            .where(self._is_running, self._is_free, lacks)
            .order_by(Batch.prepared_until.asc().nulls_first(), Batch.id)
        )
        if only_batch is not None:
            self._next = self._next.where(Batch.id == only_batch)

    def begin(self) -> Turn | None:
        """Take the batch that has waited longest to be prepared; None: no batch needs preparation."""
        columns = (Batch.id, Batch.environment, Batch.environment_id, Batch.may_import)
        with self._database.reading() as connection:
            waiting = connection.execute(self._next).all()
            batch = next((each for each in waiting if is_lacking(connection, each)), None)
        if batch is None:
            return None
        with self._database.writing_one() as connection:
            mine = update(Batch).where(Batch.id == batch.id, self._is_running, self._is_free)
            taken = mine.values(prepared_until=self._database.now(LEASE)).returning(
                Batch.prepared_until, *columns, Batch.canary, Batch.trial, (Batch.outages > 0).label("is_probing")
            )
            row = connection.execute(taken).one_or_none()
        if row is None:
            return None
        self._thread.held_until = row.prepared_until
        return Turn(row.id, row.environment, row.environment_id, row.may_import, find_first(row), row.is_probing)

    def renew(self, batch_id: int) -> bool:
        """Keep the batch for this worker. False: the batch no longer runs, or another worker prepares it."""
        with self._database.writing_one() as connection:
            mine = update(Batch).where(self.is_held(batch_id), self._is_running)
            renewed = mine.values(prepared_until=self._database.now(LEASE)).returning(Batch.prepared_until)
            held_until = connection.scalar(renewed)
        if held_until is not None:
            self._thread.held_until = held_until
        return held_until is not None

    def check(self, batch_id: int) -> None:
        """Keep the batch for this worker. Raises Superseded."""
        if not self.renew(batch_id):
            raise Superseded

    def end(self, batch_id: int, wait: float) -> None:
        """End the turn: the batch may be prepared again in `wait` seconds. Does nothing if another worker already has
        the turn."""
        with self._database.writing_one() as connection:
            until = self._database.now(wait)
            connection.execute(update(Batch).where(self.is_held(batch_id)).values(prepared_until=until))

    def end_all(self) -> None:
        """End every turn. Call this when no worker is preparing anything: one that is would lose its turn."""
        with self._database.writing() as connection:
            connection.execute(update(Batch).where(Batch.prepared_until.is_not(None)).values(prepared_until=None))

    def is_held(self, batch_id: int) -> ColumnElement[bool]:
        """Whether this thread still has the turn of a batch. A command that makes records pending again ends the turn,
        and another worker may have had a whole turn since."""
        held_until: datetime = self._thread.held_until
        return and_(Batch.id == batch_id, Batch.prepared_until == held_until)


def find_first(batch: Row[*tuple[Any, ...]]) -> int | None:
    """Find how many first records of a batch may run during its canary or trial, from its columns; None: all."""
    return min(filter(None, (batch.canary, batch.trial)), default=None)


def may_go(batch_id: int, first: int | None) -> tuple[ColumnElement[bool], ...]:
    """SQL conditions for the records of a batch that may run: its `first` ones; None: all."""
    mine = Record.batch_id == batch_id
    return (mine,) if first is None else (mine, is_among_first(batch_id, first))


def is_lacking(connection: Connection, batch: Row[*tuple[Any, ...]]) -> bool:
    """Whether a record that may run lacks its user or token. The caller knows that some record of the batch does."""
    first = find_first(batch)
    if first is None:
        return True
    lacking = (select(Record.id).where(*may_go(batch.id, first), text(each)) for each in (LACKS_USER, LACKS_TOKEN))
    return any(connection.scalar(each.limit(1)) is not None for each in lacking)
