"""What the end of an attempt writes: the record's columns, and the attempt's line of history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Insert, Update, bindparam, case, func, insert

from models.attempt import Attempt, Outcome
from models.batch import BatchState
from models.reason import CURES
from models.record import Record, Status
from worker.database import Database
from worker.decisions import Active, DeadLetter, Decision, OtpProgress, Pause, Progress, Retry
from worker.leases.claim import Claim
from worker.leases.moves import batch_is, move
from worker.pingone.errors import Answer


@dataclass(frozen=True, slots=True)
class Tally:
    """What an attempt cost, and PingOne's last answer if there was one."""

    requests: int = 0
    rate_limited: int = 0
    answer: Answer | None = None


class Settlement:
    """The statements that take a record out of `activating`, built once: a million settlements use the same few."""

    def __init__(self, database: Database, worker: str) -> None:
        retry = self._pending_again(database)
        is_cancelled = batch_is(BatchState.CANCELLED)
        self._statements: dict[str, Update] = {
            # What is done needs no OTP any more, so none is kept.
            "active": _from_activating(database, Status.ACTIVE).values(
                otps=None, resynced=bindparam("resynced"), reason=None, detail=None, pingone_error_id=None
            ),
            "dead_letter": _from_activating(database, Status.DEAD_LETTER).values(
                reason=bindparam("reason"), detail=bindparam("detail")
            ),
            # A read is owed, so not even a cancelled batch makes the record final.
            "unread": retry,
            # The batch may have been cancelled meanwhile.
            "pending": retry.values(
                status=case((is_cancelled, Status.CANCELLED), else_=Status.PENDING),
                finalized_at=case((is_cancelled, database.now()), else_=None),
            ),
        }
        self.line: Insert = insert(Attempt).values(worker=worker, ended_at=database.now())

    def statement(self, progress: Progress, decision: Decision) -> Update:
        match decision:
            case Active():
                return self._statements["active"]
            case DeadLetter():
                return self._statements["dead_letter"]
        return self._statements["unread" if progress.needs_read else "pending"]

    @staticmethod
    def _pending_again(database: Database) -> Update:
        delay = bindparam("delay", type_=Float())
        return _from_activating(database, Status.PENDING).values(scheduled_at=database.now(delay))


def _from_activating(database: Database, target: Status) -> Update:
    return (
        move(database, Status.ACTIVATING, target)
        .where(Record.id == bindparam("record_id"), Record.lease_id == bindparam("held_lease_id"))
        .values(
            otp1_state=bindparam("first_state"),
            otp1_posts=bindparam("first_posts"),
            otp2_state=bindparam("second_state"),
            otp2_posts=bindparam("second_posts"),
            verdict=bindparam("new_verdict"),
            not_found=bindparam("new_not_found"),
            attempts=Record.attempts - bindparam("uncounted"),
            requests=Record.requests + bindparam("new_requests"),
            rate_limited=Record.rate_limited + bindparam("new_rate_limited"),
            pingone_error_id=func.coalesce(bindparam("error_id"), Record.pingone_error_id),
            correlation_id=func.coalesce(bindparam("new_correlation_id"), Record.correlation_id),
        )
    )


def parameters(claim: Claim, progress: Progress, decision: Decision, tally: Tally) -> dict[str, Any]:
    """For the statement that the decision takes."""
    answer = tally.answer or Answer()
    values = otp_parameters(progress) | {
        "record_id": claim.record_id,
        "held_lease_id": claim.lease_id,
        "new_verdict": progress.verdict,
        "new_not_found": progress.not_found,
        "uncounted": 0 if is_counted(decision) else 1,
        "new_requests": tally.requests,
        "new_rate_limited": tally.rate_limited,
        "error_id": answer.error_id,
        "new_correlation_id": answer.correlation_id,
    }
    match decision:
        case Active():
            return values | {"resynced": progress.second is not None and progress.second.posts > 0}
        case DeadLetter(reason=reason):
            return values | {"reason": reason, "detail": CURES[reason]}
        case Retry(delay=delay) | Pause(delay=delay):
            return values | {"delay": delay}


def otp_parameters(progress: Progress) -> dict[str, Any]:
    second = progress.second or OtpProgress()
    return {
        "first_state": progress.first.state,
        "first_posts": progress.first.posts,
        "second_state": second.state,
        "second_posts": second.posts,
    }


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
