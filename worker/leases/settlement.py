"""What the end of an attempt writes: the record's columns, and the attempt's line of history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, Insert, Update, bindparam, case, func, insert, literal, null, select

from models.attempt import AttemptLine, Outcome
from models.batch import BatchState
from models.reason import CURES
from models.record import Record, Status
from worker.database.engine import Database
from worker.leases.claim import Claim
from worker.leases.moves import is_batch_in, move
from worker.pingone.errors import Answer
from worker.rules.progress import OtpProgress, Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

# The columns of an attempt's line that differ from one to the next, and the parameters that they come from: the
# record's own where they are the same, for each parameter costs as much as a column does.
_PARTICULAR = {
    "record_id": "settled_id",
    "batch_id": "line_batch_id",
    "number": "line_number",
    "outcome": "line_outcome",
    "reason": "line_reason",
    "lease_id": "held_lease_id",
    "requests": "new_requests",
    "otp_posts": "line_otp_posts",
    "http_status": "line_http_status",
    "code": "line_code",
    "detail_code": "line_detail_code",
    "pingone_error_id": "error_id",
    "correlation_id": "new_correlation_id",
}


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What an attempt cost, and PingOne's last answer if there was one."""

    requests: int = 0
    rate_limited: int = 0
    answer: Answer | None = None


class Settlement:
    """The statements that take a record out of `activating`, built once: a million settlements use the same few."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        retry = self._pending_again(database)
        is_cancelled = is_batch_in(BatchState.CANCELLED)
        updates = {
            # What is done needs no OTP any more, so none is kept.
            "active": _from_activating(database, Status.ACTIVE).values(
                otps=null(), resynced=bindparam("resynced"), reason=null(), detail=null(), pingone_error_id=null()
            ),
            "dead_letter": _from_activating(database, Status.DEAD_LETTER).values(
                reason=bindparam("reason"), detail=bindparam("detail")
            ),
            # A read is owed, so not even a cancelled batch makes the record final.
            "unread": retry,
            # The batch may have been cancelled meanwhile.
            "pending": retry.values(
                status=case((is_cancelled, Status.CANCELLED), else_=Status.PENDING),
                finalized_at=case((is_cancelled, database.now()), else_=null()),
            ),
        }
        line = _line(worker, database)
        self._updates: dict[str, Update] = updates
        self._line = insert(AttemptLine).inline().values(line)
        # PostgreSQL writes both in one statement: the line goes in if the record was updated.
        self._both = {kind: _with_line(update, line) for kind, update in updates.items()}

    def write(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """Both, or nothing where a rescue took the lease away: False."""
        kind = _choose_update(progress, decision)
        values = _parameters(claim, progress, decision, summary) | _history(claim, progress, decision, summary)
        if not self._database.is_sqlite:
            with self._database.writing_one() as connection:
                return connection.execute(self._both[kind], values).rowcount == 1
        with self._database.writing() as connection:
            if connection.execute(self._updates[kind], values).rowcount == 0:
                return False
            connection.execute(self._line, values)
        return True

    @staticmethod
    def _pending_again(database: Database) -> Update:
        delay = bindparam("delay", type_=Float())
        return _from_activating(database, Status.PENDING).values(scheduled_at=database.now(delay))


def _from_activating(database: Database, target: Status) -> Update:
    return (
        move(database, Status.ACTIVATING, target)
        .where(Record.id == bindparam("settled_id"), Record.lease_id == bindparam("held_lease_id"))
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


def _choose_update(progress: Progress, decision: Decision) -> str:
    match decision:
        case Active():
            return "active"
        case DeadLetter():
            return "dead_letter"
    return "unread" if progress.needs_read else "pending"


def _line(worker: str, database: Database) -> dict[str, ColumnElement[Any]]:
    """The attempt's line of history, by column; `_history` has what is particular to one."""
    columns = AttemptLine.__table__.c
    particular = {name: bindparam(value, type_=columns[name].type) for name, value in _PARTICULAR.items()}
    return particular | {"worker": literal(worker), "ended_at": database.now()}


def _with_line(update: Update, line: dict[str, ColumnElement[Any]]) -> Insert:
    settled = update.returning(Record.id).cte("settled")
    both = insert(AttemptLine).from_select(list(line), select(*line.values()).select_from(settled))
    # SQLAlchemy does not keep the count of rows that an INSERT wrote, unless asked to.
    return both.execution_options(preserve_rowcount=True)


def _parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """For the statement that the decision takes."""
    answer = summary.answer or Answer()
    values = otp_parameters(progress) | {
        "settled_id": claim.record_id,
        "held_lease_id": claim.lease_id,
        "new_verdict": progress.verdict,
        "new_not_found": progress.not_found,
        "uncounted": 0 if is_counted(decision) else 1,
        "new_requests": summary.requests,
        "new_rate_limited": summary.rate_limited,
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


def _history(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    answer = summary.answer or Answer()
    return {
        "line_batch_id": claim.batch_id,
        "line_otp_posts": claim.count_spent_posts(progress, leaves_pending=leaves_pending(decision)),
        "line_number": claim.progress.attempts,
        "line_outcome": _outcome(decision),
        "line_reason": _reason(decision),
        "line_http_status": answer.status,
        "line_code": answer.code,
        "line_detail_code": answer.detail_code,
    }


def leaves_pending(decision: Decision) -> bool:
    """The record is not final after this."""
    return isinstance(decision, Retry | Pause)


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
