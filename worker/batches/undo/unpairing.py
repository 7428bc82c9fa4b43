"""Removes the devices that a batch made, at the pace of its license; or says what that would remove."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, and_, func, or_, select

from models.audit import Action
from models.record import Record
from models.record_states import PairingState, Status
from worker import audit
from worker.audit import Actor
from worker.batches.undo.chunks import Chunks
from worker.batches.undo.kept import Kept
from worker.batches.undo.read_back import DefaultChange
from worker.batches.undo.removal import End, Outcome, Removal
from worker.batches.undo.standing import Standing, UndoneBatch
from worker.batches.undo.unpaired import Unpaired
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.leases.undoing import had_device, note_device_gone
from worker.observability.progress import OnProgress, tell_nobody
from worker.pingone.clients import Clients
from worker.rules.ages import SentAgo, count_ago

# Seconds between two questions whether PingOne may be asked about the last pairing of unknown fate.
ASK_AGAIN = 1.0
# What is told of each step.
WAITING = "Waiting until the last requests to pair are over"
READING = "Reading devices"
REMOVING = "Removing devices"

_CHANGED = "its record was changed meanwhile, or a worker has it: give the command again"
# This batch made a device, and knows its id.
_HAS_DEVICE = and_(Record.is_device_made, Record.device_id != "", Record.user_id != "")
# A request to pair may have made one. A final record's token was looked up, so that nothing is open.
_IS_OPEN = and_(
    Record.status == Status.PENDING,
    Record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    Record.device_id == "",
    Record.user_id != "",
)

# Writes down how the removal of a record's device ended.
Note = Callable[[Row[*tuple[Any, ...]], Outcome], None]


class Unpairing:
    """Unpairs batches of one environment. `threads`: devices that are worked on at once; `wait` waits so many
    seconds."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        environment: Environment,
        settings: Settings,
        standing: Standing,
        actor: Actor,
        wait: Callable[[float], object],
        threads: int = 32,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._clients = clients
        self._environment = environment
        self._standing = standing
        self._actor = actor
        self._wait = wait
        self._threads = threads
        self._on_progress = on_progress
        self._lasts = timedelta(seconds=settings.over_after)
        # A request to pair may be answered, or make a device. After a jump of the clock its time does not show it; but
        # the record's look-up was put off for as long.
        is_put_off = Record.scheduled_at.between(database.now(0.001), database.now(settings.over_after))
        was_sent_lately = Record.otp_sent_at > database.now(-settings.over_after)
        self._is_under_way = and_(_IS_OPEN, or_(was_sent_lately, is_put_off))

    def examine(self, name: str) -> Unpaired:
        """Find out what `remove` would do, and change nothing; pairings of unknown fate are counted only. Raises
        UnknownBatch, NotPossible."""
        batch = self._standing.require_rest(name)
        unpaired = self._count(batch)
        chunks = Chunks(self._database, self._standing, batch, is_real=False)
        self._on_progress(READING, 0, unpaired.devices)
        self._work_through(batch, chunks.take(_HAS_DEVICE), unpaired, is_real=False)
        return unpaired

    def remove(self, name: str) -> Unpaired:
        """Remove the devices that the batch made, with a line in the audit before and after. It may end at any moment,
        and be called again. Raises UnknownBatch, NotPossible."""
        batch = self._standing.require_rest(name)
        unpaired = self._count(batch)
        self._write_down(name, {"devices": unpaired.devices, "unknown_pairings": unpaired.unknown})
        chunks = Chunks(self._database, self._standing, batch, is_real=True)
        with ExitStack() as ending:
            ending.callback(chunks.let_go)
            ending.callback(lambda: self._write_down(name, unpaired.to_facts()))
            self._wait_for_pairings(batch)
            self._on_progress(REMOVING, 0, unpaired.devices + unpaired.unknown)
            self._work_through(batch, chunks.take(_IS_OPEN), unpaired, is_real=True)
            # Last, since workers read what is owed in a cancelled batch, and may find devices meanwhile.
            self._work_through(batch, chunks.take(_HAS_DEVICE), unpaired, is_real=True)
        return unpaired

    def _count(self, batch: UndoneBatch) -> Unpaired:
        kinds = (_HAS_DEVICE, _IS_OPEN, had_device())
        counting = [select(func.count()).where(Record.batch_id == batch.id, kind) for kind in kinds]
        with self._database.reading() as connection:
            devices, unknown, earlier = (connection.scalar(count) or 0 for count in counting)
        return Unpaired(devices, unknown, earlier)

    def _work_through(
        self,
        batch: UndoneBatch,
        chunks: Iterator[Sequence[Row[*tuple[Any, ...]]]],
        unpaired: Unpaired,
        *,
        is_real: bool,
    ) -> None:
        """Work on these records of the batch."""
        with self._database.reading() as connection:
            made = select(func.lower(Record.device_id)).where(Record.batch_id == batch.id, _HAS_DEVICE)
            removed = frozenset(connection.scalars(made))
        ages = (self._count_ago, self._lasts)
        removal = Removal(self._clients, self._environment, batch.id, removed, self._wait, *ages, is_real=is_real)
        for chunk in chunks:
            self._run(removal, chunk, partial(self._note, unpaired, is_real=is_real))

    def _count_ago(self, record: Row[*tuple[Any, ...]]) -> SentAgo | None:
        with self._database.reading() as connection:
            now = connection.execute(select(self._database.now())).scalar_one()
        return count_ago(now, record.otp_sent_at, record.pairing_began_at)

    def _run(self, removal: Removal, chunk: Sequence[Row[*tuple[Any, ...]]], note: Note) -> None:
        """Work on the records of a chunk, several at once, and note how each ended. After a failure, or Ctrl-C, no
        further one is begun; what is under way is waited for, and noted as well."""
        pool = ThreadPoolExecutor(self._threads)
        ending = deque((record, pool.submit(removal.remove, record)) for record in chunk)

        def note_first() -> None:
            record, end = ending[0]
            note(record, end.result())
            ending.popleft()

        def note_others() -> None:
            for record, end in ending:
                if not end.cancelled() and end.exception() is None:
                    note(record, end.result())

        # In a thread of its own: Ctrl-C interrupts the main thread only, and would come between what is written down
        # and its count.
        with ThreadPoolExecutor(1) as noting:
            try:
                while ending:
                    noting.submit(note_first).result()
            finally:
                pool.shutdown(cancel_futures=True)
                noting.submit(note_others).result()

    def _note(self, unpaired: Unpaired, record: Row[*tuple[Any, ...]], outcome: Outcome, *, is_real: bool) -> None:
        """Write down what became of a device, at once: what is not written down has to be looked up again."""
        if is_real and outcome.end in (End.REMOVED, End.GONE, End.NEVER_MADE):
            was_made = outcome.end is not End.NEVER_MADE
            with self._database.writing() as connection:
                if not note_device_gone(self._database, connection, record.id, record.device_id, was_made=was_made):
                    outcome = Outcome(End.LEFT, _CHANGED, outcome.heir)
        unpaired.ends[outcome.end] += 1
        if outcome.heir is not None:
            change = DefaultChange(record.row_number, record.serial_number, record.user_id, outcome.heir)
            unpaired.defaults.setdefault(record.user_id, change)
        if outcome.end is End.LEFT:
            unpaired.kept.append(Kept(record.row_number, record.serial_number, outcome.why))
        total = unpaired.devices + (unpaired.unknown if is_real else 0)
        self._on_progress(REMOVING if is_real else READING, unpaired.ends.total(), total)

    def _wait_for_pairings(self, batch: UndoneBatch) -> None:
        """Wait until no request to pair of the batch can be under way any more: what it makes could not be seen yet."""
        under_way = select(Record.id).where(Record.batch_id == batch.id, self._is_under_way).limit(1)
        while self._has(under_way):
            self._on_progress(WAITING, 0)
            self._wait(ASK_AGAIN)

    def _has(self, found: Any) -> bool:
        with self._database.reading() as connection:
            return connection.scalar(found) is not None

    def _write_down(self, name: str, facts: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            audit.append(self._database, connection, self._actor, Action.UNPAIR, name, facts)
