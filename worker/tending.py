"""What a batch does by itself: it pauses when its canary is done or PingOne is out, and goes on when that is back."""

from __future__ import annotations

from sqlalchemy import Connection, Integer, Select, and_, bindparam, case, func, or_, select, text, update

from models.attempt import Attempt
from models.batch import Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason
from models.record import NOT_FINAL, Record
from worker import breaker
from worker.database import Database

# Attempts of other batches between ours are passed over, up to so many.
_RECENT_ATTEMPTS = 500


class Tending:
    """Looks after batches; thread-safe."""

    def __init__(self, database: Database, thresholds: breaker.Thresholds) -> None:
        self._database = database
        self._thresholds = thresholds
        due = update(Batch).where(
            Batch.state == BatchState.PAUSED, Batch.reason == PauseReason.OUTAGE, Batch.probe_at <= database.now()
        )
        running = {"state": BatchState.RUNNING, "reason": None, "detail": None, "probe_at": None}
        self._run_again = due.values(running | {"running_since": database.now()})

    def pause(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """Only a person can mend what was found. False if the batch did not run any more."""
        with self._database.writing() as connection:
            return self._pause(connection, batch_id, reason, detail)

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
        """What time brings: probes, the end of an outage, canaries that are done. Called at every tick."""
        with self._database.writing() as connection:
            self._probe(connection)
            for batch in connection.execute(_WATCHED).all():
                if batch.outages and breaker.is_back(self._latest(connection, batch.id)):
                    connection.execute(update(Batch).where(Batch.id == batch.id).values(outages=0))
                if batch.canary_row is not None and not self._left(connection, batch.id, batch.canary_row):
                    self._pause(connection, batch.id, PauseReason.CANARY)

    def _probe(self, connection: Connection) -> None:
        """Outages that may be over: the batch runs again, and the dispatcher lets only a few records go at first."""
        connection.execute(self._run_again)

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
        running = update(Batch).where(Batch.id == batch_id, Batch.state == BatchState.RUNNING)
        values = {"state": BatchState.PAUSED, "reason": reason, "detail": detail or PAUSE_CURES[reason]}
        return connection.execute(running.values(values)).rowcount == 1


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
# Running batches that only a part of may go.
_WATCHED = select(Batch.id, Batch.canary_row, Batch.outages).where(
    Batch.state == BatchState.RUNNING, (Batch.canary_row.is_not(None)) | (Batch.outages > 0)
)
