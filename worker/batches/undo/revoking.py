"""Revokes a list of tokens by jobs: each is written down before its request goes out, and followed to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from models.inventory_job import LONGEST_DETAIL, JobState
from worker.batches.commands import NotPossible
from worker.batches.preparation.inventory import LONGEST_JOB
from worker.batches.preparation.token_work import ASK_AGAIN
from worker.batches.undo.kept import Kept
from worker.batches.undo.revocation_jobs import RevocationJobs
from worker.batches.undo.standing import Standing, UndoneBatch
from worker.batches.undo.token_list import OwnToken
from worker.clocks.boot_clock import boot_time
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.leases.undoing import note_tokens_gone
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import SlotTooFar
from worker.pace.patience import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import NotFound, OutcomeUnknown, PingOneError
from worker.pingone.import_jobs import ImportJob
from worker.pingone.import_jobs import JobState as Theirs
from worker.pingone.refusals import Rejected

# How often a job is not found before it counts as cleaned up: a new one may not be seen everywhere yet.
_NOT_FOUND = 3


@dataclass(slots=True)
class Outcome:
    """How many tokens were revoked, of which no answer tells it, and which PingOne refuses to revoke."""

    revoked: int = 0
    unsure: list[OwnToken] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


class Revoking:
    """Revokes tokens of one environment. `most_tokens`: tokens of a job at most; `wait` waits so many seconds. The
    request of a job goes out no later than `send_within` seconds after it was marked as sent."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        importer: Environment,
        standing: Standing,
        jobs: RevocationJobs,
        most_tokens: int,
        wait: Callable[[float], object],
        *,
        send_within: float,
    ) -> None:
        self._database = database
        self._clients = clients
        self._importer = importer
        self._standing = standing
        self._jobs = jobs
        self._most_tokens = most_tokens
        self._wait = wait
        self._send_within = send_within

    def revoke(
        self, batch: UndoneBatch, tokens: Sequence[OwnToken], call: Call, on_progress: OnProgress = tell_nobody
    ) -> Outcome:
        """Revoke tokens of the batch. Before each job it is looked whether the batch still rests. Raises NotPossible,
        any PingOneError."""
        outcome, left = Outcome(), list(tokens)
        while left:
            on_progress("Revoking tokens", len(tokens) - len(left), len(tokens))
            with self._database.reading() as connection:
                self._standing.require_rest_within(connection, batch.name)
            self._revoke(batch, left[: self._most_tokens], outcome, call)
            left = left[self._most_tokens :]
        return outcome

    def end_jobs(self, batch_id: int, call: Call) -> None:
        """Wait for the end of jobs of the batch that an earlier command, or a lost answer, left open. What they did,
        the inventory shows."""
        while job := self._jobs.find_unfinished(batch_id):
            if job.job_id is not None:
                self._end(job.id, self._await_end(job.job_id, call))
            elif job.is_unanswered:
                self._jobs.end(job.id, JobState.LOST)
            else:
                self._wait(ASK_AGAIN)

    def _revoke(self, batch: UndoneBatch, tokens: Sequence[OwnToken], outcome: Outcome, call: Call) -> None:
        """Revoke these tokens by one job; where PingOne refuses it, each half by itself."""
        job = self._jobs.begin(batch.id, len(tokens))
        marking = self._mark_each_try(batch, job, call)
        try:
            start = self._clients.jobs(self._importer).start_revocation
            pingone_id = call_patiently(lambda: start([token.id for token in tokens], call=marking))
        except OutcomeUnknown:
            # It stays written down as sent: it may still be done.
            outcome.unsure += tokens
            return
        except Rejected as refusal:
            self._refuse(batch, job, tokens, outcome, str(refusal), call)
            return
        except (PingOneError, SlotTooFar, NotPossible):
            self._jobs.end(job, JobState.FAILED)
            raise
        self._jobs.note_started(job, pingone_id)
        result = self._await_end(pingone_id, call)
        if result is not None and result.state is Theirs.FAILED:
            self._refuse(batch, job, tokens, outcome, result.reason or "the job failed", call)
            return
        if result is not None and result.revoked == len(tokens):
            with self._database.changing_many() as connection:
                outcome.revoked += note_tokens_gone(self._database, connection, [token.record_id for token in tokens])
        else:
            outcome.unsure += tokens
        self._end(job, result)

    def _mark_each_try(self, batch: UndoneBatch, job: int, call: Call) -> Call:
        """Make a call whose tries mark the job as sent anew, since a hold may last minutes before the next. The permit
        raises NotPossible if the batch does not rest any more, or another command ends its jobs."""

        def mark_again() -> None:
            marked_after = boot_time()
            with self._database.changing_many() as connection:
                self._standing.require_rest_within(connection, batch.name)
                if not self._jobs.mark_sent_again(connection, job):
                    raise NotPossible(f"batch {batch.name!r} is being revoked by another command: wait for its end")
            marking.send_before = marked_after + self._send_within

        marking = replace(call, send_before=boot_time() + self._send_within, permit=mark_again)
        return marking

    def _refuse(
        self, batch: UndoneBatch, job: int, tokens: Sequence[OwnToken], outcome: Outcome, why: str, call: Call
    ) -> None:
        """Write down that nothing came of a job, and revoke each half of its tokens; one that stood alone stays."""
        self._jobs.end(job, JobState.FAILED, detail=why[:LONGEST_DETAIL])
        if len(tokens) == 1:
            outcome.kept.append(Kept(tokens[0].row_number, tokens[0].serial_number, f"PingOne refuses: {why}"))
            return
        half = len(tokens) // 2
        for part in (tokens[:half], tokens[half:]):
            self._revoke(batch, part, outcome, call)

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

    def _end(self, job: int, result: ImportJob | None) -> None:
        """Write down how a job ended."""
        if result is None:
            self._jobs.end(job, JobState.LOST)
        elif result.state is Theirs.FAILED:
            self._jobs.end(job, JobState.FAILED, detail=(result.reason or "")[:LONGEST_DETAIL])
        else:
            self._jobs.end(job, JobState.DONE, done=result.revoked)
