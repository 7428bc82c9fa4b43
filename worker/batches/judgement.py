"""Reads what the breaker needs to know of a batch: its failed attempts, and how many made their device ACTIVE since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, func, literal_column, or_, select, text
from sqlalchemy.orm import aliased

from models.attempt import FAILED, AttemptLine, Failure, Outcome
from models.batch import Batch
from models.record import Record
from models.record_indexes import EXPIRING, IN_WINDOW, LACKS_TOKEN, LACKS_USER, LASTING
from models.record_states import OtpState
from worker.rules import breaker
from worker.rules.breaker import (
    IGNORED_FAILURES,
    WATCHED_FAILURES,
    ActiveAttempt,
    FailedAttempt,
    Thresholds,
    Trip,
    is_own_answer,
)

# Columns of a batch that say from which attempts on it is judged.
JUDGED_COLUMNS = (Batch.id, Batch.judged_after, Batch.running_after, Batch.outages)
# A row with these columns; it may have others too.
JudgedBatch = Row[*tuple[Any, ...]]

# Failed attempts that are looked through for the first one without an answer, at most: some days of probes.
_LONGEST_SILENCE = 2000

_BATCH, _AFTER = bindparam("of_batch", type_=Integer()), bindparam("after", type_=Integer())
_JUDGED_AFTER, _MOST = bindparam("judged_after", type_=Integer()), bindparam("most", type_=Integer())
# In the words of the partial index: successes, which are most attempts, are not looked at.
_FAILED = (
    select(AttemptLine.__table__)
    .where(AttemptLine.batch_id == _BATCH, text(FAILED), AttemptLine.id > _AFTER)
    .order_by(AttemptLine.id.desc())
    .limit(_MOST)
)
# The first attempt at the same record that asked PingOne, since its batch is judged.
_Earlier = aliased(AttemptLine)
_FIRST_ID = (
    select(func.min(_Earlier.id))
    .where(
        _Earlier.record_id == AttemptLine.record_id,
        _Earlier.id > _JUDGED_AFTER,
        _Earlier.id <= AttemptLine.id,
        or_(_Earlier.requests > 0, _Earlier.reason.in_(sorted(WATCHED_FAILURES))),
    )
    .scalar_subquery()
)
_JUDGED = _FAILED.add_columns(_FIRST_ID.label("first_id"))
# Those that called PingOne.
_ASKED = _JUDGED.where(
    or_(AttemptLine.requests > 0, AttemptLine.reason.in_(sorted(WATCHED_FAILURES))),
    AttemptLine.reason.not_in(sorted(IGNORED_FAILURES)),
)
# Those that spent OTPs, or made a dead letter.
_COSTLY = _JUDGED.where(
    or_(AttemptLine.outcome == Outcome.DEAD_LETTER, AttemptLine.otp_posts > 0),
    AttemptLine.reason.is_distinct_from(Failure.TIME_STEP),
)
_IS_ACTIVE = (AttemptLine.id > _AFTER, AttemptLine.batch_id == _BATCH, AttemptLine.outcome == Outcome.ACTIVE)
_LAST_ACTIVE = select(func.max(AttemptLine.id)).where(*_IS_ACTIVE)
_ACTIVE = (
    select(AttemptLine.id, func.coalesce(_FIRST_ID, AttemptLine.id), AttemptLine.worker)
    .where(*_IS_ACTIVE)
    .order_by(AttemptLine.id.desc())
    .limit(_MOST)
)
# The newest attempts, however they ended. Their number is small, so that no index is needed.
_LATEST = (
    select(AttemptLine.reason)
    .where(AttemptLine.id > _AFTER, AttemptLine.batch_id == _BATCH)
    .order_by(AttemptLine.id.desc())
    .limit(_MOST)
)
# Where records are whose OTPs have not gone, each place with an index of its own, which a planner takes for this order
# alone. Those of the window are asked for by an expression: SQLite would look at every record of the batch.
_UNTRIED = [
    select(func.count()).select_from(
        select(Record.id)
        .where(of_batch == _BATCH, text(condition), Record.otp1_state == OtpState.UNSENT)
        .order_by(order)
        .limit(_MOST)
        .subquery()
    )
    for of_batch, condition, order in (
        (Record.batch_id, LASTING, Record.scheduled_at),
        (Record.batch_id, EXPIRING, Record.otp_expires_at),
        (Record.batch_id, LACKS_USER, Record.row_number),
        (Record.batch_id, LACKS_TOKEN, Record.row_number),
        (Record.batch_id + literal_column("0"), IN_WINDOW, Record.lease_until),
    )
]


class _History:
    """The breaker's questions, asked of the tables, each once."""

    def __init__(self, connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> None:
        self._connection = connection
        self._batch = batch
        # As many as may speak for a batch, and as many again whose records were begun earlier.
        self._most = math.ceil(
            2 * breaker.EXCESS_WITHIN * max(thresholds.spent, thresholds.refused) / min(1, 2 * thresholds.refused_share)
        )
        self._active: list[ActiveAttempt] | None = None

    def read_active(self) -> Sequence[ActiveAttempt]:
        if self._active is None:
            judged_after = self._batch.judged_after
            values = {"of_batch": self._batch.id, "after": judged_after, "judged_after": judged_after}
            rows = self._connection.execute(_ACTIVE, values | {"most": self._most}).all()
            self._active = [ActiveAttempt(*row) for row in rows]
        return self._active

    def count_untried(self, most: int) -> int:
        values = {"of_batch": self._batch.id, "most": most}
        return sum(self._connection.scalar(statement, values) or 0 for statement in _UNTRIED)


def find_others(connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> Trip | None:
    """Find out whether a batch must pause since somebody else works on its devices."""
    values = {"of_batch": batch.id, "after": batch.judged_after, "most": thresholds.latest}
    return breaker.find_others(connection.scalars(_LATEST, values).all(), thresholds)


def find_trip(connection: Connection, batch: JudgedBatch, thresholds: Thresholds, *, has_others: bool) -> Trip | None:
    """Find out whether a batch must pause, and why; None: it need not. `has_others`: whether several worker processes
    live."""
    failures, history = _read_failures(connection, batch, thresholds), _History(connection, batch, thresholds)
    return breaker.find_trip(failures, history, thresholds, is_probing=batch.outages > 0, has_others=has_others)


def fails_alone(connection: Connection, batch: JudgedBatch, thresholds: Thresholds, worker: str) -> bool:
    """Whether PingOne answers other worker processes, and not this one."""
    failures, history = _read_failures(connection, batch, thresholds), _History(connection, batch, thresholds)
    alone = [failure for failure in breaker.find_alone(failures, history) if failure.worker == worker]
    return len(alone) >= breaker.UNANSWERED_ALONE


def was_answered(connection: Connection, batch: JudgedBatch, thresholds: Thresholds, after: int | None = None) -> bool:
    """Whether PingOne answered any attempt whose id is larger than `after`; by default, any since the batch last began
    to run."""
    failures, history = _read_failures(connection, batch, thresholds), _History(connection, batch, thresholds)
    return breaker.was_answered_since(failures, history, batch.running_after if after is None else after)


def find_silence(connection: Connection, batch: JudgedBatch) -> datetime | None:
    """Find out when the first attempt of a batch ended that PingOne did not answer, with none answered since; None if
    it answered the latest."""
    values = {"of_batch": batch.id, "after": 0, "most": _LONGEST_SILENCE}
    rows = connection.execute(_FAILED, values).all()
    oldest = rows[-1].id if rows else 0
    last_active = connection.scalar(_LAST_ACTIVE, {"of_batch": batch.id, "after": oldest}) or 0
    since: datetime | None = None
    for row in rows:
        failure = _build_failure(row, batch.running_after)
        if row.id < last_active or breaker.is_answer(failure):
            break
        if failure.is_unanswered:
            since = row.ended_at
    return since


def _read_failures(connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> list[FailedAttempt]:
    """Read failed attempts of a batch, the newest first: of those that called PingOne and of those that cost something,
    as many as the breaker may need."""
    in_a_row = 2 * max(
        thresholds.unanswered, thresholds.forbidden, breaker.FAILURES_PER_RECORD * thresholds.unauthorized
    )
    most = max(thresholds.spent, thresholds.refused, thresholds.other_device, thresholds.devices_gone)
    costly = breaker.FAILURES_PER_RECORD * most
    values = {"of_batch": batch.id, "after": batch.judged_after, "judged_after": batch.judged_after}
    asked = connection.execute(_ASKED, values | {"most": in_a_row}).all()
    spent = connection.execute(_COSTLY, values | {"most": costly}).all()
    rows = {row.id: row for row in (*asked, *spent)}
    return [
        _build_failure(rows[number], batch.running_after, rows[number].first_id)
        for number in sorted(rows, reverse=True)
    ]


def _build_failure(row: Row[*tuple[Any, ...]], running_after: int, first_id: int | None = None) -> FailedAttempt:
    status = f"HTTP {row.http_status}" if row.http_status else None
    return FailedAttempt(
        id=row.id,
        record_id=row.record_id,
        outcome=row.outcome,
        reason=row.reason or "",
        otp_posts=row.otp_posts,
        said=" ".join(filter(None, (status, row.code, row.detail_code))),
        has_asked=row.requests > 0 or row.reason in WATCHED_FAILURES,
        is_answered=is_own_answer(row.http_status, row.correlation_id),
        is_recent=row.id > running_after,
        first_id=first_id,
        worker=row.worker,
    )
