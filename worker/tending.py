"""What a batch does by itself: it pauses when its canary is done, its window closes, the license's quota is used up or
PingOne is out; and goes on when that is over."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
    update,
)

from models.attempt import Attempt
from models.batch import Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason
from models.record import NOT_FINAL, Record
from worker import breaker, quota, timetable
from worker.daily_window import UnfitWindow
from worker.database import Database
from worker.quota import Quota

# Attempts of other batches between ours are passed over, up to so many.
_RECENT_ATTEMPTS = 500
# Paused for one of these, a batch waits for a time alone.
_WAITS = (PauseReason.WINDOW, PauseReason.QUOTA)


class Tending:
    """Looks after batches; thread-safe."""

    def __init__(self, database: Database, thresholds: breaker.Thresholds) -> None:
        self._database = database
        self._thresholds = thresholds
        now = database.now()
        is_over = or_(
            and_(Batch.reason == PauseReason.OUTAGE, Batch.probe_at <= now),
            and_(Batch.reason.in_(_WAITS), Batch.resumes_at <= now),
        )
        self._due_again = select(Batch.id).where(Batch.state == BatchState.PAUSED, is_over)
        has_closed = or_(Batch.closes_at <= now, and_(Batch.daily_window.is_not(None), Batch.closes_at.is_(None)))
        self._due_to_close = select(Batch.id).where(Batch.state == BatchState.RUNNING, has_closed)

    def pause(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """Only a person can mend what was found. False if the batch did not run any more."""
        with self._database.writing() as connection:
            return self._pause(connection, batch_id, reason, detail)

    def pause_for_quota(self, spent: Quota, shares: Callable[[str], bool]) -> None:
        """Every batch that runs in an environment which `shares` the license waits until its quota resets."""
        with self._database.writing() as connection:
            resumes_at = connection.execute(select(self._database.now(spent.resets_in))).scalar_one()
            columns = (Batch.id, Batch.environment, Batch.daily_window, Batch.zone)
            running = select(*columns).where(Batch.state == BatchState.RUNNING).order_by(Batch.id)
            for batch in connection.execute(running).all():
                if shares(batch.environment):
                    window = f"{batch.daily_window} {batch.zone}" if batch.daily_window else None
                    self._pause(connection, batch.id, PauseReason.QUOTA, quota.explain(spent, resumes_at, window))
                    connection.execute(update(Batch).where(Batch.id == batch.id).values(resumes_at=resumes_at))

    def judge_settled(self, batch_id: int) -> PauseReason | None:
        """Ask the breaker about the final records since the batch began to run, and pause if it says so."""
        latest = (
            select(Record.reason)
            .join(Batch, Batch.id == Record.batch_id)
            .where(Record.batch_id == batch_id, Record.finalized_at > Batch.running_since)
            .order_by(Record.finalized_at.desc())
            .limit(breaker.LATEST)
        )
        with self._database.reading() as connection:
            trip = breaker.judge(connection.scalars(latest).all(), self._thresholds)
        if trip is None:
            return None
        self.pause(batch_id, trip.reason, trip.detail)
        return trip.reason

    def judge_attempts(self, batch_id: int) -> bool:
        """Ask the breaker whether PingOne is out; then the batch pauses until a probe."""
        with self._database.writing() as connection:
            outages = connection.scalar(
                select(Batch.outages).where(Batch.id == batch_id, Batch.state == BatchState.RUNNING)
            )
            if outages is None:
                return False
            latest = self._latest(connection, batch_id)
            if not breaker.is_out(latest, self._thresholds, is_probing=outages > 0):
                return False
            self._pause(connection, batch_id, PauseReason.OUTAGE)
            probe = {"probe_at": self._database.now(breaker.probe_delay(outages)), "outages": outages + 1}
            connection.execute(update(Batch).where(Batch.id == batch_id).values(probe))
            return True

    def tend(self) -> None:
        """What time brings: windows that open and close, quotas that reset, probes, the end of an outage, canaries that
        are done. Called at every tick."""
        with self._database.writing() as connection:
            self._go_on(connection)
            for batch in connection.execute(_WATCHED).all():
                if batch.outages and breaker.is_back(self._latest(connection, batch.id)):
                    connection.execute(update(Batch).where(Batch.id == batch.id).values(outages=0))
                if batch.canary_row is not None and not self._left(connection, batch.id, batch.canary_row):
                    self._pause(connection, batch.id, PauseReason.CANARY)
            self._close(connection)

    def _go_on(self, connection: Connection) -> None:
        """Windows that open, quotas that reset; and outages that may be over: there the batch runs again, and the
        dispatcher lets only a few records go at first."""
        for batch_id in connection.scalars(self._due_again).all():
            self._look_at_window(connection, batch_id, timetable.let_run)

    def _close(self, connection: Connection) -> None:
        """Windows that closed. A batch that an earlier version let run has not been told when its window does."""
        for batch_id in connection.scalars(self._due_to_close).all():
            self._look_at_window(connection, batch_id, timetable.keep)

    def _look_at_window(
        self, connection: Connection, batch_id: int, step: Callable[[Database, Connection, int], object]
    ) -> None:
        """Where this machine's time zones are older than those of the machine that loaded the batch, only that batch
        must stop."""
        try:
            step(self._database, connection, batch_id)
        except UnfitWindow as error:
            stopped = {
                "state": BatchState.PAUSED,
                "reason": PauseReason.INTERNAL,
                "detail": f"Its daily window cannot be read here: {error}. Update tzdata, then resume.",
                "probe_at": None,
                "resumes_at": None,
            }
            connection.execute(update(Batch).where(Batch.id == batch_id).values(stopped))

    def _latest(self, connection: Connection, batch_id: int) -> list[str | None]:
        """How the batch's attempts since it began to run went, the newest first; only those that asked PingOne: one
        that was lost, or had nothing to ask, tells nothing."""
        values = {"of_batch": batch_id, "count": 2 * self._thresholds.unanswered}
        return list(connection.scalars(_LATEST, values))

    def _left(self, connection: Connection, batch_id: int, canary_row: int) -> int:
        left = select(func.count()).where(
            Record.batch_id == batch_id, Record.row_number <= canary_row, text(f"record.{NOT_FINAL}")
        )
        return connection.scalar(left) or 0

    def _pause(self, connection: Connection, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        running = update(Batch).where(Batch.id == batch_id, _is_worked_on())
        values = {"state": BatchState.PAUSED, "reason": reason, "detail": detail or PAUSE_CURES[reason]}
        return connection.execute(running.values(values | {"resumes_at": None})).rowcount == 1


def _is_worked_on() -> ColumnElement[bool]:
    """It runs; or it did until its window closed or its quota was used up: what its last calls brought to light is told
    then, and not when it would have gone on."""
    return or_(Batch.state == BatchState.RUNNING, and_(Batch.state == BatchState.PAUSED, Batch.reason.in_(_WAITS)))


def _latest() -> Select[str | None]:
    recent = select(Attempt).order_by(Attempt.id.desc()).limit(_RECENT_ATTEMPTS).subquery()
    has_asked = or_(recent.c.requests > 0, recent.c.reason.in_(breaker.WATCHED_FAILURES))
    # A tenant whose successes name no status leaves every fate open, and is there all the same. The Correlation-Id
    # tells PingOne's answer from a proxy's page.
    is_answered = and_(recent.c.http_status < 500, recent.c.correlation_id.is_not(None))
    return (
        select(case((is_answered, "answered"), else_=recent.c.reason))
        .join(Record, Record.id == recent.c.record_id)
        .join(Batch, Batch.id == Record.batch_id)
        .where(Batch.id == bindparam("of_batch"), recent.c.ended_at > Batch.running_since, has_asked)
        .order_by(recent.c.id.desc())
        .limit(bindparam("count", type_=Integer()))
    )


# Asked at every tick, or after every attempt of an outage: built once.
_LATEST = _latest()
# Batches that only a part of may go.
_WATCHED = select(Batch.id, Batch.canary_row, Batch.outages).where(
    _is_worked_on(), (Batch.canary_row.is_not(None)) | (Batch.outages > 0)
)
