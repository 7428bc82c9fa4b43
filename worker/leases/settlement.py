"""What is written at the end of an attempt: the record's columns, and the attempt's line of history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ColumnElement, Float, Insert, Update, bindparam, case, func, insert, null, select

from models.attempt import AttemptLine
from models.batch import BatchState
from models.reason import CURES
from models.record import Record
from models.record_states import NOBODY, Status
from worker.database.engine import Database
from worker.leases.attempt_line import CallSummary, build_line, is_counted, line_parameters
from worker.leases.claim import Claim
from worker.leases.moves import is_batch_in, move
from worker.pingone.errors import Answer
from worker.rules.progress import OtpProgress, Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

# The columns that keep how far a record has come, and the parameters for them that `progress_parameters` gives.
PROGRESS_COLUMNS: dict[str, Any] = {
    "otp1_state": bindparam("first_state"),
    "otp1_posts": bindparam("first_posts"),
    "otp2_state": bindparam("second_state"),
    "otp2_posts": bindparam("second_posts"),
    "verdict": bindparam("new_verdict"),
    "next_counter": bindparam("new_next_counter"),
}

# Those that keep what is known of its device, and the parameters that `pairing_parameters` gives. They are written only
# where that has changed.
PAIRING_COLUMNS: dict[str, Any] = {
    "pairing": bindparam("new_pairing"),
    "pairings": bindparam("new_pairings"),
    "device_id": bindparam("new_device_id"),
    "is_device_made": bindparam("new_is_device_made"),
    "owner_id": case((bindparam("new_was_free", type_=Boolean()), NOBODY), else_=Record.owner_id),
}


class Settlement:
    """Takes records out of `activating`. The statements are built once, here: building one costs more than running
    it."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        retry = _to_pending(database)
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
        line = build_line(worker, database)
        # By what becomes of the record, and whether what is known of its device has changed.
        self._updates: dict[tuple[str, bool], Update] = {
            (kind, has_changed): update.values(PAIRING_COLUMNS) if has_changed else update
            for kind, update in updates.items()
            for has_changed in (False, True)
        }
        self._line = insert(AttemptLine).inline().values(line)
        # PostgreSQL writes both in one statement: the line goes in if the record was updated.
        self._both = {kind: _with_line(update, line) for kind, update in self._updates.items()}

    def write(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """Write the record and the line of its attempt in one transaction. False: a rescue took the lease away, and
        nothing was written."""
        has_changed = progress.pairing != claim.progress.pairing
        kind = _choose_update(progress, decision), has_changed
        values = _parameters(claim, progress, decision, summary) | line_parameters(claim, progress, decision, summary)
        if has_changed:
            values |= pairing_parameters(progress)
        if not self._database.is_sqlite:
            with self._database.writing_one() as connection:
                return connection.execute(self._both[kind], values).rowcount == 1
        with self._database.writing() as connection:
            if connection.execute(self._updates[kind], values).rowcount == 0:
                return False
            connection.execute(self._line, values)
        return True


def _to_pending(database: Database) -> Update:
    """The update that makes a record pending again, and due after the parameter `delay` in seconds."""
    delay = bindparam("delay", type_=Float())
    return _from_activating(database, Status.PENDING).values(scheduled_at=database.now(delay))


def _from_activating(database: Database, target: Status) -> Update:
    """The update that takes one record from `activating` to `target`, where the lease still stands."""
    return (
        move(database, Status.ACTIVATING, target)
        .where(Record.id == bindparam("settled_id"), Record.lease_id == bindparam("held_lease_id"))
        .values(
            **PROGRESS_COLUMNS,
            not_found=bindparam("new_not_found"),
            attempts=Record.attempts - bindparam("uncounted"),
            requests=Record.requests + bindparam("new_requests"),
            rate_limited=Record.rate_limited + bindparam("new_rate_limited"),
            pingone_error_id=func.coalesce(bindparam("error_id"), Record.pingone_error_id),
            correlation_id=func.coalesce(bindparam("new_correlation_id"), Record.correlation_id),
        )
    )


def _choose_update(progress: Progress, decision: Decision) -> str:
    """The name of the update that this decision takes, among those of Settlement."""
    match decision:
        case Active():
            return "active"
        case DeadLetter():
            return "dead_letter"
    return "unread" if progress.needs_read else "pending"


def _with_line(update: Update, line: dict[str, ColumnElement[Any]]) -> Insert:
    """One statement that updates the record, and inserts the line if the record was updated."""
    settled = update.returning(Record.id).cte("settled")
    both = insert(AttemptLine).from_select(list(line), select(*line.values()).select_from(settled))
    # SQLAlchemy does not keep the count of rows that an INSERT wrote, unless asked to.
    return both.execution_options(preserve_rowcount=True)


def _parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """The parameters of the update that the decision takes."""
    answer = summary.answer or Answer()
    values = progress_parameters(progress) | {
        "settled_id": claim.record_id,
        "held_lease_id": claim.lease_id,
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


def progress_parameters(progress: Progress) -> dict[str, Any]:
    """How far a record has come, as the parameters of PROGRESS_COLUMNS. A second OTP that it does not have is
    unsent."""
    second = progress.second or OtpProgress()
    return {
        "first_state": progress.first.state,
        "first_posts": progress.first.posts,
        "second_state": second.state,
        "second_posts": second.posts,
        "new_verdict": progress.verdict,
        "new_next_counter": progress.next_counter,
    }


def pairing_parameters(progress: Progress) -> dict[str, Any]:
    """What is known of a record's device, as the parameters of PAIRING_COLUMNS."""
    pairing = progress.pairing
    return {
        "new_pairing": pairing.state,
        "new_pairings": pairing.pairings,
        "new_device_id": pairing.device_id,
        "new_is_device_made": pairing.is_made,
        "new_was_free": pairing.was_free,
    }
