"""Mutants that waste OTPs, and mutants that come to no end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hunt.mutants.patching import Patch, around, mutant
from worker import records
from worker.leases.queue import Queue
from worker.pingone import errors
from worker.rules import decisions
from worker.rules.progress import SendOtp


@mutant("is one post more than the budget")
def has_no_budget() -> list[Patch]:
    def tools(real: Any, **given: Any) -> Any:
        return real(**given | {"limits": replace(given["limits"], posts=99)})

    return [around(records, "AttemptTools", tools)]


@mutant("goes out, and PingOne has not asked for OTP 2")
def sends_otp_2_unasked() -> list[Patch]:
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        if isinstance(answer, errors.InvalidOtp) and ordinal == 1 and progress.second is not None:
            return progress.with_otp_answered(1), SendOtp(2)
        return real(progress, ordinal, answer, limits)

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("not finished")
def rescues_nothing() -> list[Patch]:
    return [around(Queue, "rescue", lambda *_: 0)]


@mutant("not finished")
def rescues_no_lost_message() -> list[Patch]:
    return [around(Queue, "_rescue_queued", lambda *_: 0)]
