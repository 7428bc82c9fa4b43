"""Reads the evidence by which the breaker judges a batch: its failed attempts, the records that have become ACTIVE
since, and the records not tried yet.

Attempts are selected by their ids and by two marks of the batch. Times would not do: a clock that is set back would
hide some attempts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, func, literal_column, or_, select, text
from sqlalchemy.orm import aliased

from models.attempt import FAILED, AttemptLine, Failure, Outcome, find_last_answer
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
    History,
    Thresholds,
    is_own_answer,
)

# Columns of a batch that say from which attempt on the breaker judges it.
JUDGED_COLUMNS = (Batch.id, Batch.judged_after, Batch.running_after, Batch.outages)
# A row with these columns; it may have others too.
JudgedBatch = Row[*tuple[Any, ...]]

# Number of failed attempts, at most, in which to search for the first one without an answer: some days of probes.
_LONGEST_SILENCE = 2000


def was_answered(connection: Connection, batch: JudgedBatch, thresholds: Thresholds, after: int | None = None) -> bool:
    """Whether PingOne answered any attempt with an id larger than `after`; by default, any attempt since the batch last
    began to run."""
    failures, history = read_evidence(connection, batch, thresholds)
    return breaker.was_answered_since(failures, history, batch.running_after if after is None else after)


def find_silence(connection: Connection, batch: JudgedBatch) -> datetime | None:
    """Find out when PingOne stopped answering the attempts of a batch: when the first unanswered one ended. None if it
    answered the latest one."""
    values = {"of_batch": batch.id, "after": 0, "most": _LONGEST_SILENCE}
    rows = connection.execute(_FAILED, values).all()
    oldest = rows[-1].id if rows else 0
    last_active = connection.scalar(_LAST_ACTIVE, {"of_batch": batch.id, "after": oldest}) or 0
    since: datetime | None = None
    for row in rows:
        failure = _build_failure(row, batch.running_after)
        if row.id < last_active or failure.is_answered or breaker.has_answer(failure):
            break
        if failure.is_unanswered:
            since = row.ended_at
    return since


def read_latest_reasons(connection: Connection, batch: JudgedBatch, most: int) -> Sequence[str | None]:
    """Read the reasons of a batch's `most` newest attempts; None: the attempt itself, and nobody else, made its
    device ACTIVE."""
    judged = AttemptLine.id > batch.judged_after, AttemptLine.batch_id == batch.id
    # These are few enough to need no index.
    return connection.scalars(
        select(AttemptLine.reason).where(*judged).order_by(AttemptLine.id.desc()).limit(most)
    ).all()


def read_evidence(
    connection: Connection, batch: JudgedBatch, thresholds: Thresholds
) -> tuple[list[FailedAttempt], History]:
    """Read the failed attempts that the breaker may need, the newest first: some that called PingOne, and some that
    spent OTPs or made a dead letter. The history answers the breaker's further questions."""
    in_a_row = 2 * max(
        thresholds.unanswered, thresholds.forbidden, breaker.FAILURES_PER_RECORD * thresholds.unauthorized
    )
    most = max(thresholds.spent, thresholds.refused, thresholds.other_device, thresholds.devices_gone)
    costly = breaker.FAILURES_PER_RECORD * most
    values = {"of_batch": batch.id, "after": batch.judged_after, "judged_after": batch.judged_after}
    asked = connection.execute(_ASKED, values | {"most": in_a_row}).all()
    spent = connection.execute(_COSTLY, values | {"most": costly}).all()
    rows = {row.id: row for row in (*asked, *spent)}
    failures = [
        _build_failure(rows[number], batch.running_after, rows[number].first_id)
        for number in sorted(rows, reverse=True)
    ]
    return failures, _open_history(connection, batch, thresholds)


def _open_history(connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> History:
    """Answer the breaker's questions from the tables; read the attempts that made a device ACTIVE only once."""
    # Enough successes to outweigh the failures, and as many again whose records began before the failures.
    most = math.ceil(
        2 * breaker.EXCESS_WITHIN * max(thresholds.spent, thresholds.refused) / min(1, 2 * thresholds.refused_share)
    )

    @cache
    def read_active() -> Sequence[ActiveAttempt]:
        judged_after = batch.judged_after
        values = {"of_batch": batch.id, "after": judged_after, "judged_after": judged_after, "most": most}
        return [ActiveAttempt(*row) for row in connection.execute(_ACTIVE, values)]

    def count_untried(most: int) -> int:
        values = {"of_batch": batch.id, "most": most}
        return sum(connection.scalar(statement, values) or 0 for statement in _UNTRIED)

    return History(read_active, count_untried)


def _build_failure(row: Row[*tuple[Any, ...]], running_after: int, first_id: int | None = None) -> FailedAttempt:
    answer = find_last_answer(row.calls or ())
    status = f"HTTP {answer['status']}" if answer else None
    return FailedAttempt(
        id=row.id,
        record_id=row.record_id,
        outcome=row.outcome,
        reason=row.reason or "",
        otp_posts=row.otp_posts,
        codes=" ".join(filter(None, (status, answer.get("code"), answer.get("detail_code")))),
        has_asked=row.requests > 0 or row.reason in WATCHED_FAILURES,
        is_answered=is_own_answer(answer.get("status"), answer.get("correlation_id")),
        is_recent=row.id > running_after,
        first_id=first_id,
        worker=row.worker,
    )


# The statements, built once.

_BATCH, _AFTER = bindparam("of_batch", type_=Integer()), bindparam("after", type_=Integer())
_JUDGED_AFTER, _MOST = bindparam("judged_after", type_=Integer()), bindparam("most", type_=Integer())
# Worded like the partial index, which leaves out successes, the bulk of all attempts.
_FAILED = (
    select(AttemptLine.__table__)
    .where(AttemptLine.batch_id == _BATCH, text(FAILED), AttemptLine.id > _AFTER)
    .order_by(AttemptLine.id.desc())
    .limit(_MOST)
)
# The first attempt at the same record that called PingOne since the batch's mark.
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
# Attempts that called PingOne.
_ASKED = _JUDGED.where(
    or_(AttemptLine.requests > 0, AttemptLine.reason.in_(sorted(WATCHED_FAILURES))),
    AttemptLine.reason.not_in(sorted(IGNORED_FAILURES)),
)
# Attempts that spent OTPs or made a dead letter.
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
# These count the records whose OTPs have not been sent, group by group. Each group has its own index, which a planner
# uses only for this order. The records in the window are selected by an expression: otherwise SQLite would read every
# record of the batch.
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
        (Record.batch_id, LACKS_USER, Record.scheduled_at),
        (Record.batch_id, LACKS_TOKEN, Record.scheduled_at),
        (Record.batch_id + literal_column("0"), IN_WINDOW, Record.lease_until),
    )
]
