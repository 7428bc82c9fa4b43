"""Prepares batches, one part of the work after the other: people are looked up, the inventory is read, tokens are
imported. Each part is written down before the next, so that it may end at any moment.

One worker at a time prepares a batch, for some seconds: its turn is a lease on the batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, text, update

from models.batch import Batch
from models.inventory_job import UNFINISHED, InventoryJob
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.batches.imports import Imports
from worker.batches.inventory import Inventory
from worker.batches.long_list import (
    LAST_ROW,
    WAIT_AFTER_FAILURE,
    Failures,
    Obstacle,
    Silence,
    Superseded,
    Turn,
)
from worker.batches.people import People
from worker.batches.upkeep import Upkeep
from worker.clocks.boot_clock import boot_time
from worker.config.environment import Environment
from worker.config.environments import Environments
from worker.config.settings import ConfigError
from worker.database.engine import Database
from worker.leases.moves import is_running
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import NotActedOn, PingOneError
from worker.pingone.refusals import Rejected

# Seconds that a preparation goes on before another batch has its turn.
TURN = 15.0
# Seconds after which a worker that prepares a batch is taken for dead. Each try of a call renews it; whoever waits for
# longer, for the end of a hold, may lose the turn meanwhile and then sends nothing.
LEASE = 60.0
# Seconds for which a reading of the inventory is believed: what somebody else imports after it would count as ours, if
# an answer of ours got lost.
BELIEVED_FOR = 600.0
# The last row of a batch that its canary and its trial let go.
_LAST_LET_GO = case(
    (Batch.canary_row < Batch.trial_row, Batch.canary_row),
    else_=func.coalesce(Batch.trial_row, Batch.canary_row, LAST_ROW),
)


class Preparation:
    """Prepares the batches of all environments; thread-safe. `wait` waits so many seconds, unless the process ends."""

    def __init__(
        self,
        database: Database,
        environments: Environments,
        clients: Clients,
        turns: Turns,
        people: People,
        inventory: Inventory,
        imports: Imports,
        failures: Failures,
        upkeep: Upkeep,
        wait: Callable[[float], object],
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._environments = environments
        self._clients = clients
        self._turns = turns
        self._people = people
        self._inventory = inventory
        self._imports = imports
        self._failures = failures
        self._upkeep = upkeep
        self._wait = wait
        self._is_stopping = is_stopping

    def run(self) -> bool:
        """Prepare the batch that has waited longest, for one turn. False: no batch has anything to prepare. Raises what
        failed on our side, after pausing the batch."""
        turn = self._turns.begin()
        if turn is None:
            return False
        wait = WAIT_AFTER_FAILURE
        try:
            wait = self._prepare(turn)
        except Exception as failure:
            self._failures.handle_own(turn.batch_id, failure)
            raise
        finally:
            self._turns.end(turn.batch_id, wait)
        return True

    def _prepare(self, turn: Turn) -> float:
        """Do parts of the work for one turn. Returns for how many seconds nothing is to be done for this batch."""
        environment = self._find_environment(turn)
        if environment is None:
            # The dispatcher finds this out as well, and pauses the batch or ends this process.
            return WAIT_AFTER_FAILURE

        def permit() -> None:
            if self._is_stopping():
                raise Superseded
            self._turns.check(turn.batch_id)

        call = Call(f"oathbulk-batch-{turn.batch_id}", f"oathbulk-preparation-{turn.batch_id}", permit=permit)
        silence = Silence(turn, self._upkeep, boot_time)
        people, tokens = _Part("people", environment), _Part("tokens", environment.as_importer())
        presence = _Part("presence", environment)
        reads = self._clients.reads(environment)
        unknown = self._people.list_unknown(
            turn, lambda attribute, names: reads.find_users(attribute, names, call=call)
        )
        ends_at = boot_time() + TURN
        with suppress(Superseded):
            while boot_time() < ends_at or silence.is_to_be_settled:
                permit()
                calls = silence.calls
                is_busy = self._do(turn, people, unknown.advance, call, silence)
                advance = partial(self._advance_tokens, turn, tokens.environment, call, silence, is_busy=is_busy)
                is_left = self._do(turn, tokens, advance, call, silence) or is_busy
                if silence.is_in_doubt and silence.calls == calls:
                    # A job whose answer got lost is not asked about for minutes.
                    self._do(turn, presence, partial(self._ask_anything, environment, call), call, silence)
                if not is_left:
                    if not silence.is_to_be_settled:
                        break
                    self._wait(WAIT_AFTER_FAILURE)
        return max(people.resumes_at, tokens.resumes_at, boot_time()) - boot_time()

    def _do(self, turn: Turn, part: _Part, do: Callable[[], bool], call: Call, silence: Silence) -> bool:
        """Do a request's worth of a part, unless it has to wait after a failure: the other goes on meanwhile. False:
        nothing of it is left to do now. Whether PingOne answers is noted by `silence`."""
        if boot_time() < part.resumes_at:
            return False
        requests = call.requests
        try:
            is_left = do()
        except (Obstacle, PingOneError, SlotTooFar) as failure:
            silence.note_failure(failure)
            wait = self._failures.handle(turn.batch_id, part.name, part.environment, failure)
            part.resumes_at = boot_time() + wait
            # The other part must do nothing more for a batch that was paused for this.
            self._turns.check(turn.batch_id)
            return False
        self._failures.forget(turn.batch_id, part.name)
        if call.requests > requests:
            silence.note_answer()
        return is_left

    def _advance_tokens(
        self, turn: Turn, environment: Environment, call: Call, silence: Silence, *, is_busy: bool
    ) -> bool:
        """Do the next part about tokens: follow an import, read the inventory, or start an import. False: nothing is
        left to do. `is_busy`: there is other work, so that nothing need be waited for."""
        if job := self._imports.jobs.find_unfinished(turn.batch_id):
            self._imports.follow(turn.batch_id, job, environment, call, is_busy=is_busy)
            return True
        was_read_lately, lacks = self._read_state(turn)
        if not lacks:
            return False
        if not was_read_lately:
            self._inventory.read(turn, environment, call, silence.listen, self._turns.renew)
            return True
        if turn.may_import:
            return self._imports.start_next(turn, environment, call, is_busy=is_busy)
        return self._imports.give_up_all(turn) > 0

    def _read_state(self, turn: Turn) -> tuple[bool, bool]:
        """Whether the inventory was read to its end for this batch lately, and whether a record's token is still to be
        found or imported."""
        # Two questions, since each has an index of its own.
        may_go = Record.batch_id == turn.batch_id, Record.row_number <= turn.last_row
        lacks = [exists().where(*may_go, text(each)) for each in (LACKS_TOKEN, LACKS_USER)]
        with self._database.reading() as connection:
            was_read_lately = Batch.inventory_read_at > self._database.now(-BELIEVED_FOR)
            lately, has_some = connection.execute(
                select(was_read_lately, or_(*lacks)).where(Batch.id == turn.batch_id)
            ).one()
        return bool(lately), has_some

    def _ask_anything(self, environment: Environment, call: Call) -> bool:
        """Read something small: whatever PingOne answers, it is there."""
        with suppress(NotActedOn, Rejected):
            self._clients.reads(environment).read_mfa_settings(call=call)
        return False

    def _find_environment(self, turn: Turn) -> Environment | None:
        """The environment that a batch was loaded for; None if it is not configured so here: in another tenant, nothing
        may be created for it."""
        try:
            environment = self._environments.get(turn.environment)
        except ConfigError:
            return None
        return environment if environment.environment_id == turn.environment_id else None


@dataclass(slots=True)
class _Part:
    """A part of the work on a batch: the environment with the application that does it, and until when, in `boot_time`
    seconds, it waits after a failure."""

    name: str
    environment: Environment
    resumes_at: float = 0.0


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
        """Keep the batch for this worker. Raises Superseded."""
        if not self.renew(batch_id):
            raise Superseded

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


def restart_times(database: Database, connection: Connection) -> None:
    """Let no turn last longer than from now on, believe no reading of the inventory of a time to come, and count from
    now how long a job has been out. In the caller's transaction."""
    is_too_far = Batch.prepared_until > database.now(LEASE)
    connection.execute(update(Batch).where(is_too_far).values(prepared_until=database.now(LEASE)))
    read_later = update(Batch).where(Batch.inventory_read_at > database.now())
    connection.execute(read_later.values(inventory_read_at=None))
    unfinished = update(InventoryJob).where(text(UNFINISHED))
    connection.execute(unfinished.values(counted_from=database.now()))
    connection.execute(unfinished.where(InventoryJob.sent_at > database.now()).values(sent_at=database.now()))
