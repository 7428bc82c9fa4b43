"""What is to be done about the tokens of a batch: read the inventory, start an import, follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, exists, or_, select, text

from models.batch import Batch
from models.inventory_job import JobState as OurState
from models.record import Record
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.batches.inventory_list import MakeRead, list_pages
from worker.batches.preparation.imports import Imports
from worker.batches.preparation.inventory import Inventory
from worker.batches.preparation.obstacles import Obstacle
from worker.batches.preparation.turns import Turn, TurnLost
from worker.clocks.boot_clock import boot_time
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import (
    AlreadyImported,
    Forbidden,
    InventoryFull,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    Rejected,
)
from worker.pingone.inventory import JobState

# Seconds for which a reading of the inventory is believed: what somebody else imports after it would count as ours, if
# an answer of ours got lost.
BELIEVED_FOR = 600.0
# Seconds between two questions about a job that runs.
ASK_AGAIN = 1.0


class TokenWork:
    """The work on tokens, part by part. `renew` keeps a batch for this worker, and is False when it does not run any
    more; `wait` waits so many seconds. The request of a job goes out no later than `send_within` seconds after it was
    marked as sent."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        inventory: Inventory,
        imports: Imports,
        renew: Callable[[int], bool],
        wait: Callable[[float], object],
        *,
        send_within: float,
    ) -> None:
        self._database = database
        self._clients = clients
        self._inventory = inventory
        self._imports = imports
        self._renew = renew
        self._wait = wait
        # When a job was last asked about, in `boot_time` seconds.
        self._asked_at: dict[int, float] = {}
        self._send_within = send_within

    def advance(self, turn: Turn, environment: Environment, call: Call, *, is_busy: bool, make_read: MakeRead) -> bool:
        """Do the next part about tokens. False: nothing is left to do. `is_busy`: there is other work, so that nothing
        need be waited for. `make_read` makes each read of the inventory's list. Raises Obstacle, any PingOneError,
        SlotTooFar, TurnLost."""
        if job := self._imports.find_unfinished(turn.batch_id):
            if self.follow(turn.batch_id, job, environment, call, is_busy=is_busy):
                self._check_refusals(turn, job.size)
            return True
        was_read_lately, lacks = self._read_state(turn)
        if not lacks:
            return False
        if not was_read_lately:
            self._read_inventory(turn, environment, call, make_read)
            return True
        if not turn.may_import:
            return self._imports.give_up_all(turn) > 0
        return self._begin_import(turn, environment, call, is_busy=is_busy)

    def _check_refusals(self, turn: Turn, size: int) -> None:
        """Raise Obstacle where a job of `size` tokens was one of many refusals that are hardly the tokens' fault."""
        if size == 1 and (said := self._imports.find_refusal(turn.batch_id)):
            raise Obstacle("refused", said)

    def _read_inventory(self, turn: Turn, environment: Environment, call: Call, make_read: MakeRead) -> None:
        """Read the whole inventory, and take in what it says of this batch."""
        lost = self._inventory.find_lost(turn.batch_id)
        try:
            for page in list_pages(self._clients.reads(environment), call, make_read):
                self._inventory.take(turn.batch_id, page.items, turn.last_row)
                if not self._renew(turn.batch_id):
                    return
        except Forbidden as failure:
            if turn.may_import:
                raise Obstacle("inventory") from failure
            self._inventory.assume(turn.batch_id)
        self._inventory.end_reading(turn.batch_id, lost)

    def _begin_import(self, turn: Turn, environment: Environment, call: Call, *, is_busy: bool) -> bool:
        """Start the next job. False: no token is left to be imported; or, while people are being looked up, not yet
        enough for a whole job."""
        if (job := self._imports.begin(turn, is_whole=is_busy)) is None:
            return False
        try:
            pingone_id = self._clients.jobs(environment).start_import(
                job.tokens, call=self._mark_each_try(job.id, call)
            )
        except OutcomeUnknown:
            raise
        except InventoryFull as refusal:
            self._imports.take_back(job.id)
            raise Obstacle("full", refusal) from refusal
        except Rejected as refusal:
            if isinstance(refusal, AlreadyImported) and len(job.tokens) == 1:
                self._imports.take_back(job.id)
                self._compare_duplicate(turn.batch_id, job.tokens[0].serial_number, environment, call)
                return True
            self._imports.note_refused(job.id, str(refusal.answer))
            self._check_refusals(turn, len(job.tokens))
            return True
        except Forbidden as failure:
            self._imports.take_back(job.id)
            raise Obstacle("inventory") from failure
        except (PingOneError, SlotTooFar, TurnLost):
            self._imports.take_back(job.id)
            raise
        self._imports.note_started(job.id, pingone_id)
        return True

    def _mark_each_try(self, job: int, call: Call) -> Call:
        """Make a call whose tries mark the job as sent anew: PingOne may ask to wait for minutes before the next."""

        def mark_again() -> None:
            call.permit()
            marked_after = boot_time()
            if not self._imports.mark_sent_again(job):
                raise TurnLost
            marking.send_before = marked_after + self._send_within

        marking = replace(call, send_before=boot_time() + self._send_within, permit=mark_again)
        return marking

    def follow(
        self, batch_id: int, job: Row[*tuple[Any, ...]], environment: Environment, call: Call, *, is_busy: bool
    ) -> bool:
        """Find out what became of a job, and write it down. True: PingOne refused it. Raises any PingOneError, and
        SlotTooFar."""
        if is_busy and boot_time() < self._asked_at.get(job.id, -ASK_AGAIN) + ASK_AGAIN:
            return False
        self._asked_at = {job.id: boot_time()}
        try:
            jobs = self._clients.jobs(environment)
            result = jobs.read_job(job.job_id, call=call) if job.state != OurState.SENT else None
        except NotFound:
            # PingOne forgets jobs that have ended; a new one may not be seen everywhere yet.
            result = None
        if result is None or result.state == JobState.RUNNING:
            is_lost = job.is_unanswered if result is None else job.is_too_old
            if is_lost:
                self._imports.note_lost(batch_id, job.id)
            elif not is_busy:
                self._wait(ASK_AGAIN)
        elif result.has_made_nothing:
            self._imports.note_refused(job.id, result.reason or "the job has made no token, and tells no reason")
            return True
        else:
            for serial_number in self._imports.note_done(batch_id, job.id, result):
                self._compare_duplicate(batch_id, serial_number, environment, call)
        return False

    def _compare_duplicate(self, batch_id: int, serial_number: str, environment: Environment, call: Call) -> None:
        """Read back a token that was in the inventory before its import, and take in what it says."""
        reads = self._clients.reads(environment)
        token = reads.find_token(serial_number, with_devices=False, call=call)
        if token is None:
            # PingOne said that it is there, but does not show it.
            self._inventory.assume(batch_id, serial_number)
            return
        # PingOne may write its serial number in other letters than the file.
        read_back = replace(reads.read_token(token.id, call=call), serial_number=serial_number)
        self._inventory.take(batch_id, [read_back])

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
