"""What is written at the end of an attempt: the record's columns, and the attempt's line of history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Integer,
    String,
    Update,
    case,
    func,
    insert,
    literal,
    null,
    select,
)
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from models.attempt import AttemptLine, Outcome
from models.base import LONGEST_DETAIL
from models.batch import BatchState
from models.record import Record
from models.record_states import NOBODY, Status
from worker.database.engine import Database
from worker.leases.claims import Claim
from worker.leases.group_commit import THIS, Given, GroupCommit, bind
from worker.leases.moves import is_batch_in, move, write_detail
from worker.pingone.errors import Answer
from worker.rules.progress import Active, DeadLetter, Decision, OtpProgress, Pause, Progress, Retry

PROGRESS_TYPES: dict[str, TypeEngine[Any]] = {
    "first_state": String(),
    "first_posts": Integer(),
    "second_state": String(),
    "second_posts": Integer(),
    "new_verdict": String(),
    "new_next_counter": BigInteger(),
}
PAIRING_TYPES: dict[str, TypeEngine[Any]] = {
    "new_pairing": String(),
    "new_pairings": Integer(),
    "new_device_id": String(),
    "new_is_device_made": Boolean(),
    "new_was_free": Boolean(),
}


def progress_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's OTPs, by name, and expressions for them."""
    return {
        "otp1_state": given["first_state"],
        "otp1_posts": given["first_posts"],
        "otp2_state": given["second_state"],
        "otp2_posts": given["second_posts"],
        "verdict": given["new_verdict"],
        "next_counter": given["new_next_counter"],
    }


def pairing_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's device. They are written only where that has changed."""
    return {
        "pairing": given["new_pairing"],
        "pairings": given["new_pairings"],
        "device_id": given["new_device_id"],
        "is_device_made": given["new_is_device_made"],
        "owner_id": case((given["new_was_free"], NOBODY), else_=Record.owner_id),
    }


def progress_parameters(progress: Progress) -> dict[str, Any]:
    """The values of PROGRESS_TYPES. A second OTP that a record does not have is unsent."""
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
    """The values of PAIRING_TYPES."""
    pairing = progress.pairing
    return {
        "new_pairing": pairing.state,
        "new_pairings": pairing.pairings,
        "new_device_id": pairing.device_id,
        "new_is_device_made": pairing.is_made,
        "new_was_free": pairing.was_free,
    }


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


# What every settlement has, beside the record's progress and the line of the attempt.
_TYPES: dict[str, TypeEngine[Any]] = {
    "new_not_found": Integer(),
    "uncounted": Integer(),
    "new_requests": Integer(),
    "new_rate_limited": Integer(),
    "error_id": String(),
    "new_correlation_id": String(),
}
# What a settlement has by what becomes of the record.
_KINDS: dict[str, dict[str, TypeEngine[Any]]] = {
    "active": {"is_resynced": Boolean()},
    "dead_letter": {"new_reason": String(), "new_detail": String(LONGEST_DETAIL)},
    # A read is owed, so not even a cancelled batch makes the record final.
    "unread": {"delay": Float()},
    # The batch may have been cancelled meanwhile.
    "pending": {"delay": Float()},
}


class Settlement:
    """Takes records out of `activating`. The statements are built once, here: building one costs more than running
    it."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        # By what becomes of the record, and whether what is known of its device has changed.
        self._statements = {
            (kind, has_changed): self._make_statement(kind, types, has_changed=has_changed)
            for kind, types in _KINDS.items()
            for has_changed in (False, True)
        }

    def _make_statement(self, kind: str, types: dict[str, TypeEngine[Any]], *, has_changed: bool) -> GroupCommit:
        types = PROGRESS_TYPES | _TYPES | LINE_TYPES | types | (PAIRING_TYPES if has_changed else {})
        settle = partial(_settle, self._database, kind)
        if not self._database.is_sqlite:
            # PostgreSQL writes both in one statement: the line goes in if the record was updated.
            return GroupCommit(self._database, types, partial(self._settle_with_line, settle))
        line = build_line(self._worker, self._database, bind(THIS | types))
        return GroupCommit(
            self._database,
            types,
            lambda given: settle(given).returning(given["this_lease"]),
            then=insert(AttemptLine).inline().values(line),
        )

    def _settle_with_line(self, settle: Callable[[Given], Update], given: Given) -> Executable:
        line = build_line(self._worker, self._database, given)
        settled = settle(given).returning(*(value.label(name) for name, value in line.items())).cte("settled")
        lines = insert(AttemptLine).from_select(list(line), select(*(settled.c[name] for name in line)))
        return lines.returning(AttemptLine.lease_id)

    def write(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """Write the record and the line of its attempt in one transaction. False: a rescue took the lease away, and
        nothing was written."""
        has_changed = claim.may_have_changed(progress.pairing)
        values = _parameters(claim, progress, decision, summary) | line_parameters(claim, progress, decision, summary)
        if has_changed:
            values |= pairing_parameters(progress)
        return self._statements[_choose_kind(progress, decision), has_changed].execute(values) is not None


def _choose_kind(progress: Progress, decision: Decision) -> str:
    """What becomes of the record with this decision, a key of _KINDS."""
    match decision:
        case Active():
            return "active"
        case DeadLetter():
            return "dead_letter"
    return "unread" if progress.needs_read else "pending"


def _settle(database: Database, kind: str, given: Given) -> Update:
    """The update of a record that takes it out of `activating`, where its lease still stands."""
    columns: dict[str, Any] = {
        **progress_columns(given),
        "not_found": given["new_not_found"],
        "attempts": Record.attempts - given["uncounted"],
        "requests": Record.requests + given["new_requests"],
        "rate_limited": Record.rate_limited + given["new_rate_limited"],
        "pingone_error_id": func.coalesce(given["error_id"], Record.pingone_error_id),
        "correlation_id": func.coalesce(given["new_correlation_id"], Record.correlation_id),
    }
    is_cancelled = is_batch_in(BatchState.CANCELLED)
    match kind:
        case "active":
            # What is done needs no OTP any more, so none is kept.
            told = {"reason": null(), "detail": null(), "pingone_error_id": null(), "otps": null()}
            columns |= told | {"resynced": given["is_resynced"]}
        case "dead_letter":
            columns |= {"reason": given["new_reason"], "detail": given["new_detail"]}
        case "unread":
            columns |= {"scheduled_at": database.now(given["delay"])}
        case "pending":
            columns |= {
                "scheduled_at": database.now(given["delay"]),
                "status": case((is_cancelled, Status.CANCELLED), else_=Status.PENDING),
                "finalized_at": case((is_cancelled, database.now()), else_=null()),
            }
    target = {"active": Status.ACTIVE, "dead_letter": Status.DEAD_LETTER}.get(kind, Status.PENDING)
    held = Record.id == given["this_id"], Record.lease_id == given["this_lease"]
    changed = pairing_columns(given) if "new_pairing" in given else {}
    return move(database, Status.ACTIVATING, target, is_by_key=True).where(*held).values(columns | changed)


def _parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """The values of the settlement that the decision takes."""
    answer = summary.answer or Answer()
    values = progress_parameters(progress) | {
        "this_id": claim.record_id,
        "this_lease": claim.lease_id,
        "new_not_found": progress.not_found,
        "uncounted": 0 if is_counted(decision) else 1,
        "new_requests": summary.requests,
        "new_rate_limited": summary.rate_limited,
        "error_id": answer.error_id,
        "new_correlation_id": answer.correlation_id,
    }
    match decision:
        case Active():
            return values | {"is_resynced": progress.second is not None and progress.second.posts > 0}
        case DeadLetter(reason=reason, told=told):
            detail = write_detail(reason, told, has_seed=progress.next_counter is not None)
            return values | {"new_reason": reason, "new_detail": detail}
        case Retry(delay=delay) | Pause(delay=delay):
            return values | {"delay": delay}
