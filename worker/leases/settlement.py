"""What the end of an attempt writes: columns of the record, and the attempt's line of history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Update, case

from models.attempt import Outcome
from models.batch import BatchState
from models.reason import CURES
from models.record import Record, Status
from worker.database import Database
from worker.decisions import Active, DeadLetter, Decision, Pause, Progress, Retry
from worker.leases.claim import Claim
from worker.leases.moves import batch_is, move
from worker.pingone.errors import Answer


@dataclass(frozen=True, slots=True)
class Tally:
    """What an attempt cost, and PingOne's last answer if there was one."""

    requests: int = 0
    rate_limited: int = 0
    answer: Answer | None = None


def status_after(database: Database, progress: Progress, decision: Decision) -> Update:
    """The statement that takes a record out of `activating`."""
    match decision:
        case Active():
            # What is done needs no OTP any more, so none is kept.
            done = {"otps": None, "resynced": progress.second is not None and progress.second.posts > 0}
            return move(database, Status.ACTIVATING, Status.ACTIVE).values(**done, reason=None, detail=None)
        case DeadLetter(reason=reason):
            given_up = move(database, Status.ACTIVATING, Status.DEAD_LETTER)
            return given_up.values(reason=reason, detail=CURES[reason])
        case Retry(delay=delay) | Pause(delay=delay):
            return _pending_again(database, progress, delay)


def _pending_again(database: Database, progress: Progress, delay: float) -> Update:
    """Pending; or cancelled, when the batch was cancelled meanwhile and no read is owed."""
    back = move(database, Status.ACTIVATING, Status.PENDING).values(scheduled_at=database.now(delay))
    if progress.needs_read:
        return back
    was_cancelled = batch_is(BatchState.CANCELLED)
    return back.values(
        status=case((was_cancelled, Status.CANCELLED), else_=Status.PENDING),
        finalized_at=case((was_cancelled, database.now()), else_=None),
    )


def otp_columns(progress: Progress) -> dict[str, Any]:
    columns: dict[str, Any] = {"otp1_state": progress.first.state, "otp1_posts": progress.first.posts}
    if progress.second is not None:
        columns |= {"otp2_state": progress.second.state, "otp2_posts": progress.second.posts}
    return columns


def count_columns(progress: Progress, decision: Decision, tally: Tally) -> dict[str, Any]:
    columns: dict[str, Any] = {"verdict": progress.verdict, "not_found": progress.not_found}
    if not is_counted(decision):
        columns["attempts"] = Record.attempts - 1
    if tally.requests:
        columns["requests"] = Record.requests + tally.requests
        columns["rate_limited"] = Record.rate_limited + tally.rate_limited
    if tally.answer is not None:
        columns["pingone_error_id"] = tally.answer.error_id
        columns["correlation_id"] = tally.answer.correlation_id
    return columns


def history(claim: Claim, decision: Decision, tally: Tally) -> dict[str, Any]:
    """The attempt's line, but for who worked and when it ended."""
    answer = tally.answer or Answer()
    return {
        "record_id": claim.record_id,
        "number": claim.progress.attempts,
        "outcome": _outcome(decision),
        "reason": _reason(decision),
        "lease_id": claim.lease_id,
        "requests": tally.requests,
        "http_status": answer.status,
        "code": answer.code,
        "detail_code": answer.detail_code,
        "pingone_error_id": answer.error_id,
        "correlation_id": answer.correlation_id,
    }


def is_counted(decision: Decision) -> bool:
    match decision:
        case Retry() | DeadLetter():
            return decision.is_counted
    return isinstance(decision, Active)


def _outcome(decision: Decision) -> Outcome:
    match decision:
        case Active():
            return Outcome.ACTIVE
        case DeadLetter():
            return Outcome.DEAD_LETTER
    return Outcome.RETRY if is_counted(decision) else Outcome.HANDED_BACK


def _reason(decision: Decision) -> str | None:
    match decision:
        case Retry(why=why):
            return why
        case DeadLetter(reason=reason) | Pause(reason=reason):
            return str(reason)
    return None
