"""Jobs of the inventory: lists of tokens that are imported or revoked some time after they were posted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from worker.simulator.new_tokens import NewToken
from worker.simulator.settings import Settings
from worker.simulator.world import World

JobType = Literal["CREATE_OATH_TOKENS", "REVOKE_OATH_TOKENS"]


@dataclass(slots=True, kw_only=True)
class Job:
    """A list of tokens that are imported (`tokens`) or revoked (`wanted`, their ids) at the Unix time `ends_at`, when
    the job becomes DONE, or FAILED with its `reason`. `made_by` is the number of the call that posted it.

    `token_ids`: the tokens that it made or revoked; `duplicates`: serial number and masked secret of those that were
    there. `reads` counts how often its end was read.
    """

    environment_id: str
    type: JobType
    made_by: int
    created_at: float
    ends_at: float
    tokens: tuple[NewToken, ...] = ()
    wanted: tuple[str, ...] = ()
    force_unpair: bool = False
    reason: str | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    status: Literal["RUNNING", "DONE", "FAILED"] = "RUNNING"
    token_ids: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    reads: int = 0

    def run(self, world: World, settings: Settings) -> None:
        """Do what the job is for, and forget the list. One that has a reason to fail already has an empty list."""
        if self.type == "CREATE_OATH_TOKENS":
            self._import(world, settings)
        else:
            self._revoke(world, settings)
        self.status = "DONE" if self.reason is None else "FAILED"
        self.tokens = self.wanted = ()

    def is_gone(self, now: float, settings: Settings) -> bool:
        """Whether PingOne has cleaned the job up by now."""
        if self.status == "RUNNING":
            return False
        is_read = settings.job_kept_reads is not None and self.reads >= settings.job_kept_reads
        return is_read or (settings.job_kept_for is not None and now >= self.ends_at + settings.job_kept_for)

    def _import(self, world: World, settings: Settings) -> None:
        """Import the tokens whose serial numbers are not there; those that are there are left alone."""
        inventory, environment_id = world.inventory, self.environment_id
        sent = {token.serial_number for token in self.tokens}
        added = sum(inventory.find(environment_id, serial_number) is None for serial_number in sent)
        if len(inventory.tokens(environment_id)) + added > settings.most_tokens:
            self.reason = f"The environment can have {settings.most_tokens} tokens at the most"
            return
        for token in self.tokens:
            if there := inventory.find(environment_id, token.serial_number):
                self.duplicates.append((token.serial_number, there.masked_secret))
                continue
            made = token.enter(
                environment_id,
                self.ends_at,
                made_by=self.made_by,
                job_id=self.id,
                out_of_step=token.serial_number in world.out_of_step,
            )
            inventory.add(made)
            self.token_ids.append(made.id)

    def _revoke(self, world: World, settings: Settings) -> None:
        """Revoke the tokens that are there; a paired one only by force."""
        found = [world.inventory.find_by_id(self.environment_id, token_id) for token_id in dict.fromkeys(self.wanted)]
        there = [token for token in found if token is not None]
        paired = [token.serial_number for token in there if token.pairing is not None and not self.force_unpair]
        if paired and settings.revoke_paired == "failed":
            self.reason = f"Tokens are paired: {', '.join(paired[:10])}"
            return
        for token in there:
            if token.serial_number not in paired:
                world.revoke(token)
                self.token_ids.append(token.id)


class Jobs:
    """The jobs of all environments."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._running: list[Job] = []

    def add(self, job: Job) -> None:
        """Add a job, which runs when its time has come."""
        self._jobs[job.id] = job
        self._running.append(job)

    def find(self, environment_id: str, job_id: str) -> Job | None:
        """Find a job of an environment by its id."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.environment_id == environment_id else None

    def all(self) -> list[Job]:
        """All jobs, also those that a client is not shown any more."""
        return list(self._jobs.values())

    def run_due(self, now: float, world: World, settings: Settings) -> None:
        """Run the jobs whose time has come, in its order."""
        if not self._running:
            return
        due = sorted((job for job in self._running if job.ends_at <= now), key=lambda job: job.ends_at)
        self._running = [job for job in self._running if job.ends_at > now]
        for job in due:
            job.run(world, settings)
