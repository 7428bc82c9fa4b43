"""Jobs that import tokens into PingOne's inventory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hunt.answers import answer
from hunt.dice import Dice
from hunt.tenant import Call, ModelDevice, Reply, Tenant

# Seconds that a job takes at most.
LONGEST_JOB = 5.0


@dataclass
class Job:
    """A job, and the import that began it."""

    call: Call
    ends_at: float
    fails: bool
    state: str = "IN_PROGRESS"
    created: int = 0
    duplicates: tuple[str, ...] = ()
    was_told: bool = False


class ModelJobs:
    """Creates tokens that are not there, and leaves alone those that are."""

    def __init__(self, tenant: Tenant, dice: Dice, tokens: dict[str, ModelDevice]) -> None:
        self._tenant = tenant
        self._dice = dice
        self._tokens = tokens
        self._jobs: dict[str, Job] = {}

    def begin(self, call: Call, now: float) -> Reply:
        job_id = f"job-{len(self._jobs) + 1}"
        ends_at = now + self._dice.between("job", 0.0, LONGEST_JOB)
        self._jobs[job_id] = Job(call, ends_at, self._dice.happens("job_fails", 0.1))
        return answer(202, id=job_id, status="IN_PROGRESS")

    def end_due(self, now: float) -> None:
        """Whatever jobs have to do by now is done."""
        for job in self._jobs.values():
            if job.state == "IN_PROGRESS" and job.ends_at <= now:
                self._end(job)

    def find_end(self, call: Call) -> float | None:
        """When the job of an import has ended, or will; None: there is none."""
        return next((job.ends_at for job in self._jobs.values() if job.call is call), None)

    def tell(self, call: Call, job_id: str) -> Reply:
        """How far a job is; one that has ended may be told of once."""
        job = self._jobs.get(job_id)
        if job is None or job.was_told:
            return answer(404, "NOT_FOUND")
        call.verdict, call.previous = job.state, job.call
        told: dict[str, Any] = {"id": job_id, "status": job.state}
        if job.state != "IN_PROGRESS":
            job.was_told = self._tenant.forgets_jobs
            duplicates = [{"serialNumber": serial, "maskedSecret": "6E******"} for serial in job.duplicates]
            told["result"] = {"created": job.created, "duplicates": duplicates}
        return answer(200, **told)

    def _end(self, job: Job) -> None:
        if job.fails:
            job.state = "FAILED"
            return
        there = [self._tokens[serial] for serial in job.call.serial_numbers]
        job.duplicates = tuple(token.serial_number for token in there if token.is_in_inventory)
        for token in there:
            if not token.is_in_inventory:
                token.is_in_inventory, token.imported_by = True, job.call
        job.created, job.state = len(there) - len(job.duplicates), "DONE"
