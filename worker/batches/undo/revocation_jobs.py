"""Jobs that revoke tokens: each is written down before its request goes out, then with PingOne's id of it, and followed
to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from models.inventory_job import LONGEST_DETAIL, UNFINISHED, InventoryJob, JobKind, JobState, counted_from
from worker.batches.commands import NotPossible
from worker.batches.preparation.inventory import LONGEST_JOB
from worker.batches.preparation.token_work import ASK_AGAIN
from worker.batches.undo.tokens import OwnToken
from worker.batches.undo.undo_check import UndoCheck, UndoneBatch
from worker.clocks.boot_clock import boot_time
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.pace.errors import SlotTooFar
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import NotFound, OutcomeUnknown, PingOneError
from worker.pingone.import_jobs import ImportJob
from worker.pingone.import_jobs import JobState as Theirs
from worker.pingone.refusals import Rejected

# Writes down that tokens were revoked.
NoteRevoked = Callable[[Sequence[OwnToken]], None]
# How often a job is not found before it counts as cleaned up: a new one may not be seen everywhere yet.
_NOT_FOUND = 3


@dataclass(slots=True)
class NotRevoked:
    """Tokens of which no answer tells whether they were revoked, and those that PingOne refuses to revoke, each with
    why."""

    unsure: list[OwnToken] = field(default_factory=list)
    refused: list[tuple[OwnToken, str]] = field(default_factory=list)


class Revoking:
    """Revokes tokens of one environment by jobs. `wait` waits so many seconds. The request of a job goes out no later
    than `send_within` seconds after it was marked as sent; `answer_within` seconds after that no answer to it comes any
    more, and PingOne is done with it."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        importer: Environment,
        check: UndoCheck,
        wait: Callable[[float], object],
        *,
        send_within: float,
        answer_within: float,
    ) -> None:
        self._database = database
        self._clients = clients
        self._importer = importer
        self._check = check
        self._wait = wait
        self._send_within = send_within
        self._is_unanswered = counted_from() < database.now(-answer_within)

    def revoke(self, batch: UndoneBatch, tokens: Sequence[OwnToken], note: NoteRevoked, call: Call) -> NotRevoked:
        """Revoke tokens of the batch by one job, if the batch still rests; where PingOne refuses it, each half by
        itself. `note` is called with those that were, at once. Raises NotPossible, any PingOneError."""
        with self._database.reading() as connection:
            self._check.require_rest_within(connection, batch)
        others = NotRevoked()
        self._revoke(batch, tokens, note, others, call)
        return others

    def end_jobs(self, batch_id: int, call: Call) -> None:
        """Wait for the end of jobs of the batch that an earlier command, or a lost answer, left open. What they did,
        the inventory shows."""
        while job := self._find_unfinished(batch_id):
            if job.job_id is not None:
                self._note_result(job.id, self._await_end(job.job_id, call))
            elif job.is_unanswered:
                self._end(job.id, JobState.LOST)
            else:
                self._wait(ASK_AGAIN)

    def _revoke(
        self, batch: UndoneBatch, tokens: Sequence[OwnToken], note: NoteRevoked, others: NotRevoked, call: Call
    ) -> None:
        job = self._begin(batch.id, len(tokens))
        marking = self._mark_each_try(batch, job, call)
        try:
            start = self._clients.jobs(self._importer).start_revocation
            pingone_id = call_patiently(lambda: start([token.id for token in tokens], call=marking))
        except OutcomeUnknown:
            # It stays written down as sent: it may still be done.
            others.unsure += tokens
            return
        except Rejected as refusal:
            self._end(job, JobState.FAILED, detail=str(refusal))
            self._revoke_halves(batch, tokens, note, others, str(refusal), call)
            return
        except (PingOneError, SlotTooFar, NotPossible):
            self._end(job, JobState.FAILED)
            raise
        self._write(job, job_id=pingone_id, state=JobState.RUNNING)
        result = self._await_end(pingone_id, call)
        is_failed = result is not None and result.state is Theirs.FAILED
        if result is not None and not is_failed and result.revoked == len(tokens):
            note(tokens)
        elif not is_failed:
            others.unsure += tokens
        self._note_result(job, result)
        if result is not None and is_failed:
            self._revoke_halves(batch, tokens, note, others, result.reason or "the job failed", call)

    def _mark_each_try(self, batch: UndoneBatch, job: int, call: Call) -> Call:
        """Make a call whose tries mark the job as sent anew, since a hold may last minutes before the next. The permit
        raises NotPossible if the batch does not rest any more, or another command ends its jobs."""

        def mark_again() -> None:
            marked_after = boot_time()
            with self._database.changing_many() as connection:
                self._check.require_rest_within(connection, batch)
                if not self._mark_sent(connection, job):
                    raise NotPossible(f"batch {batch.name!r} is being undone by another command: wait for its end")
            marking.send_before = marked_after + self._send_within

        marking = replace(call, send_before=boot_time() + self._send_within, permit=mark_again)
        return marking

    def _revoke_halves(
        self,
        batch: UndoneBatch,
        tokens: Sequence[OwnToken],
        note: NoteRevoked,
        others: NotRevoked,
        why: str,
        call: Call,
    ) -> None:
        """Revoke each half of the tokens of a job that was refused; one that stood alone stays."""
        if len(tokens) == 1:
            others.refused.append((tokens[0], f"PingOne refuses: {why}"))
            return
        half = len(tokens) // 2
        for part in (tokens[:half], tokens[half:]):
            self._revoke(batch, part, note, others, call)

    def _await_end(self, pingone_id: str, call: Call) -> ImportJob | None:
        """Ask about a job until it has ended. None: nobody will hear of its end any more."""
        not_found = 0
        for _ in range(int(LONGEST_JOB.total_seconds() / ASK_AGAIN)):
            try:
                found = call_patiently(lambda: self._clients.jobs(self._importer).read_job(pingone_id, call=call))
            except NotFound:
                not_found += 1
                if not_found == _NOT_FOUND:
                    return None
            except OutcomeUnknown:
                pass
            else:
                if found.state is not Theirs.RUNNING:
                    return found
            self._wait(ASK_AGAIN)
        return None

    def _note_result(self, job: int, result: ImportJob | None) -> None:
        """Write down how a job ended."""
        if result is None:
            self._end(job, JobState.LOST)
        elif result.state is Theirs.FAILED:
            self._end(job, JobState.FAILED, detail=result.reason or "")
        else:
            self._end(job, JobState.DONE, done=result.revoked)

    def _begin(self, batch_id: int, size: int) -> int:
        """Write a job down, as sent. Returns the id of its row."""
        values = {"batch_id": batch_id, "kind": JobKind.REVOKE, "state": JobState.SENT, "size": size}
        written = insert(InventoryJob).values(values | {"sent_at": self._database.now()}).returning(InventoryJob.id)
        with self._database.writing() as connection:
            return connection.scalars(written).one()

    def _mark_sent(self, connection: Connection, job: int) -> bool:
        """Write down that the request of a job goes out now: an answer to it may come later than was thought. False:
        another command has called the job lost."""
        mine = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
        return connection.execute(mine.values(sent_at=self._database.now())).rowcount == 1

    def _find_unfinished(self, batch_id: int) -> Row[*tuple[Any, ...]] | None:
        """Find the first job of a batch whose end is not written down: an earlier command was killed meanwhile."""
        columns = (InventoryJob.id, InventoryJob.job_id, self._is_unanswered.label("is_unanswered"))
        mine = select(*columns).where(
            text(UNFINISHED), InventoryJob.batch_id == batch_id, InventoryJob.kind == JobKind.REVOKE
        )
        with self._database.reading() as connection:
            return connection.execute(mine.order_by(InventoryJob.id)).first()

    def _end(self, job: int, state: JobState, *, done: int | None = None, detail: str | None = None) -> None:
        """Write down how a job ended."""
        detail = detail and detail[:LONGEST_DETAIL]
        self._write(job, state=state, done=done, detail=detail, ended_at=self._database.now())

    def _write(self, job: int, **values: Any) -> None:
        # Another command may have ended it meanwhile.
        mine = update(InventoryJob).where(InventoryJob.id == job, text(UNFINISHED))
        with self._database.writing() as connection:
            connection.execute(mine.values(values))
