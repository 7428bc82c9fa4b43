"""What is written at the end of an attempt: the record's columns, and the attempt's line of history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Boolean, Float, Integer, String, Update, case, func, insert, null, select
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from models.attempt import AttemptLine
from models.base import LONGEST_DETAIL
from models.batch import BatchState
from models.record import Record
from models.record_states import Status
from worker.database.engine import Database
from worker.leases.attempt_line import LINE_TYPES, CallSummary, build_line, is_counted, line_parameters
from worker.leases.claim import Claim
from worker.leases.giving_up import write_detail
from worker.leases.group_commit import THIS, Given, GroupCommit, bind
from worker.leases.moves import is_batch_in, move
from worker.leases.record_columns import (
    PAIRING_TYPES,
    PROGRESS_TYPES,
    pairing_columns,
    pairing_parameters,
    progress_columns,
    progress_parameters,
)
from worker.pingone.errors import Answer
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

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
