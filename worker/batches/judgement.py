"""Reads what the breaker needs to know of a batch: its failed attempts, and how many made their device ACTIVE since."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, func, or_, select, text

from models.attempt import FAILED, AttemptLine, Outcome
from models.batch import Batch
from worker.rules import breaker
from worker.rules.breaker import CountActiveAfter, Thresholds, Trip
from worker.rules.breaker_evidence import IGNORED_FAILURES, NEXT_STEP, WATCHED_FAILURES, FailedAttempt

# Successes that are counted at most: more than any threshold asks for.
_ENOUGH = 1000
# Columns of a batch that say from which attempts on it is judged.
JUDGED_COLUMNS = (Batch.id, Batch.judged_after, Batch.running_after, Batch.outages)
# A row with these columns; it may have others too.
JudgedBatch = Row[*tuple[Any, ...]]

# Failed attempts that are looked through for the first one without an answer, at most: some days of probes.
_LONGEST_SILENCE = 2000

_BATCH = bindparam("of_batch", type_=Integer())
# In the words of the partial index: successes, which are most attempts, are not looked at.
_FAILED = (
    select(AttemptLine.__table__)
    .where(AttemptLine.batch_id == _BATCH, text(FAILED), AttemptLine.id > bindparam("after"))
    .order_by(AttemptLine.id.desc())
    .limit(bindparam("count", type_=Integer()))
)
_LAST_ACTIVE = select(func.max(AttemptLine.id)).where(
    AttemptLine.id > bindparam("after"), AttemptLine.batch_id == _BATCH, AttemptLine.outcome == Outcome.ACTIVE
)
# Those that called PingOne.
_ASKED = _FAILED.where(
    or_(AttemptLine.requests > 0, AttemptLine.reason.in_(sorted(WATCHED_FAILURES))),
    AttemptLine.reason.not_in(sorted(IGNORED_FAILURES)),
)
# Those that spent OTPs, or made a dead letter.
_COSTLY = _FAILED.where(
    or_(AttemptLine.outcome == Outcome.DEAD_LETTER, AttemptLine.otp_posts > 0),
    AttemptLine.reason.is_distinct_from(NEXT_STEP),
)
_ACTIVE_AFTER = select(func.count()).select_from(
    select(AttemptLine.id)
    .where(AttemptLine.id > bindparam("after"), AttemptLine.batch_id == _BATCH, AttemptLine.outcome == Outcome.ACTIVE)
    .limit(_ENOUGH)
    .subquery()
)


def find_trip(connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> Trip | None:
    """Find out whether a batch must pause, and why; None: it need not."""
    failures, count_active_after = _read_failures(connection, batch, thresholds), _count_active_after(connection, batch)
    return breaker.find_trip(failures, count_active_after, thresholds, is_probing=batch.outages > 0)


def is_pingone_back(connection: Connection, batch: JudgedBatch, thresholds: Thresholds) -> bool:
    """Whether PingOne answered any attempt since the batch last began to run."""
    failures, count_active_after = _read_failures(connection, batch, thresholds), _count_active_after(connection, batch)
    return breaker.was_answered_since(failures, count_active_after, batch.running_after)


def find_silence(connection: Connection, batch: JudgedBatch) -> datetime | None:
    """Find out when the first attempt of a batch ended that PingOne did not answer, with none answered since; None if
    it answered the latest."""
    values = {"of_batch": batch.id, "after": 0, "count": _LONGEST_SILENCE}
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
    costly = 2 * max(thresholds.spent, thresholds.refused, thresholds.other_device, thresholds.devices_gone)
    values = {"of_batch": batch.id, "after": batch.judged_after}
    asked = connection.execute(_ASKED, values | {"count": in_a_row}).all()
    spent = connection.execute(_COSTLY, values | {"count": costly}).all()
    rows = {row.id: row for row in (*asked, *spent)}
    return [_build_failure(rows[number], batch.running_after) for number in sorted(rows, reverse=True)]


def _build_failure(row: Row[*tuple[Any, ...]], running_after: int) -> FailedAttempt:
    status = f"HTTP {row.http_status}" if row.http_status else None
    return FailedAttempt(
        id=row.id,
        record_id=row.record_id,
        outcome=row.outcome,
        reason=row.reason or "",
        otp_posts=row.otp_posts,
        said=" ".join(filter(None, (status, row.code, row.detail_code))),
        has_asked=row.requests > 0 or row.reason in WATCHED_FAILURES,
        # An answer below 500 shows that PingOne is there, even if it leaves open what became of the OTP, as with a
        # tenant whose successes name no status. The Correlation-Id tells PingOne's answer from a proxy's page.
        is_answered=(row.http_status or 500) < 500 and row.correlation_id is not None,
        is_recent=row.id > running_after,
    )


def _count_active_after(connection: Connection, batch: JudgedBatch) -> CountActiveAfter:
    return partial(_count_active, connection, batch.id)


def _count_active(connection: Connection, batch_id: int, after: int) -> int:
    return connection.scalar(_ACTIVE_AFTER, {"of_batch": batch_id, "after": after}) or 0
