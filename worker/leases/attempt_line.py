"""The line that an attempt leaves in the history: its columns, and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, literal
from sqlalchemy.types import TypeEngine

from models.attempt import AttemptLine, Outcome
from worker.database.engine import Database
from worker.leases.claim import Claim
from worker.leases.group_commit import Given
from worker.pingone.errors import Answer
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

# The columns of a line that come from what the settlement of the record has as well, and the names of these values.
# Each value costs as much as a column does.
_SHARED = {
    "record_id": "this_id",
    "lease_id": "this_lease",
    "requests": "new_requests",
    "pingone_error_id": "error_id",
    "correlation_id": "new_correlation_id",
}
# The other columns that differ from one attempt to the next, and the names of their values.
_OWN = {
    "batch_id": "line_batch_id",
    "number": "line_number",
    "outcome": "line_outcome",
    "reason": "line_reason",
    "otp_posts": "line_otp_posts",
    "call_milliseconds": "line_call_milliseconds",
    "http_status": "line_http_status",
    "code": "line_code",
    "detail_code": "line_detail_code",
}
# The SQL types of the values that only the line has. Texts have no length, since a cast to one would cut them.
LINE_TYPES: dict[str, TypeEngine[Any]] = {
    name: String() if isinstance(kind := AttemptLine.__table__.c[column].type, String) else kind
    for column, name in _OWN.items()
}


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What the calls of an attempt cost, and PingOne's last answer if there was one. `requests` counts what went out,
    `rate_limited` the 429s among the answers; `call_seconds` is how long PingOne took for all of them together."""

    requests: int = 0
    rate_limited: int = 0
    answer: Answer | None = None
    call_seconds: float = 0.0


def build_line(worker: str, database: Database, given: Given) -> dict[str, ColumnElement[Any]]:
    """The columns of a line and the expressions for them."""
    varying = {column: given[name] for column, name in (_SHARED | _OWN).items()}
    return varying | {"worker": literal(worker), "ended_at": database.now()}


def line_parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """The values of LINE_TYPES for this attempt."""
    answer = summary.answer or Answer()
    return {
        "line_batch_id": claim.batch_id,
        "line_otp_posts": claim.count_spent_posts(progress, leaves_pending=leaves_pending(decision)),
        "line_call_milliseconds": round(summary.call_seconds * 1000) if summary.requests else None,
        "line_number": claim.progress.attempts,
        "line_outcome": _outcome(decision),
        "line_reason": _reason(decision),
        "line_http_status": answer.status,
        "line_code": answer.code,
        "line_detail_code": answer.detail_code,
    }


def leaves_pending(decision: Decision) -> bool:
    """Whether the record goes back to pending with this decision, and not to a final status (unless its batch was
    cancelled)."""
    return isinstance(decision, Retry | Pause)


def is_counted(decision: Decision) -> bool:
    """Whether the attempt counts against the limit of attempts."""
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
        case Retry(why=why) | Active(why=why):
            return why
        case DeadLetter(reason=reason) | Pause(reason=reason):
            return str(reason)
    return None
