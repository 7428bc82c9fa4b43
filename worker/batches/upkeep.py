"""What a batch does by itself: it pauses when its canary is done, its window closes, the license's quota is used up or
PingOne is out; and goes on when that is over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, text, update

from models.batch import Batch, BatchState
from models.reason import PauseReason
from models.record import NOT_FINAL, Record, Status
from worker.batches import hours, judgement, state
from worker.database.engine import Database
from worker.rules import breaker, quota
from worker.rules.hours import UnfitHours
from worker.rules.quota import Quota

# Paused for one of these, a batch waits for a time alone.
_WAITS = (PauseReason.WINDOW, PauseReason.QUOTA)
# States in which something may be found that stops a batch.
_STOPPABLE = (BatchState.RUNNING, BatchState.PAUSED)


class Upkeep:
    """Looks after batches; thread-safe."""

    def __init__(self, database: Database, thresholds: breaker.Thresholds) -> None:
        self._database = database
        self._thresholds = thresholds
        now = database.now()
        is_over = or_(
            and_(Batch.reason == PauseReason.OUTAGE, Batch.probe_at <= now),
            and_(Batch.reason.in_(_WAITS), Batch.resumes_at <= now),
        )
        due_again = select(Batch.id).where(Batch.state == BatchState.PAUSED, is_over)
        # Locked, and what a person's command holds is left to it: a batch that was cancelled meanwhile must not run.
        self._due_again = due_again.with_for_update(skip_locked=True)
        has_closed = or_(Batch.closes_at <= now, and_(Batch.daily_window.is_not(None), Batch.closes_at.is_(None)))
        due_to_close = select(Batch.id).where(Batch.state == BatchState.RUNNING, has_closed)
        self._due_to_close = due_to_close.with_for_update(skip_locked=True)

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
                    detail = quota.explain_quota(spent, resumes_at, window)
                    self._pause(connection, batch.id, PauseReason.QUOTA, detail, resumes_at=resumes_at)

    def apply_breaker(self, batch_id: int) -> PauseReason | None:
        """Ask the breaker about the batch's latest attempts, and pause it if it says so. After an outage it goes on by
        itself, with a probe."""
        of_batch = select(*judgement.JUDGED_COLUMNS).where(Batch.id == batch_id, _is_worked_on())
        with self._database.reading() as connection:
            batch = connection.execute(of_batch).one_or_none()
            trip = batch and judgement.find_trip(connection, batch, self._thresholds)
        if batch is None or trip is None:
            return None
        with self._database.writing() as connection:
            return trip.reason if self._trip(connection, batch, trip) else None

    def _trip(self, connection: Connection, judged: judgement.JudgedBatch, trip: breaker.Trip) -> bool:
        """Pause a batch as the breaker says. False if it did not run any more, or went on anew since it was judged."""
        is_outage = trip.reason == PauseReason.OUTAGE
        probe_at = self._database.now(breaker.choose_probe_delay(judged.outages)) if is_outage else None
        change = state.pause(_STOPPABLE, trip.reason, trip.detail, probe_at=probe_at).where(
            Batch.id == judged.id,
            _is_worked_on(),
            Batch.judged_after == judged.judged_after,
            Batch.running_after == judged.running_after,
        )
        return connection.execute(change.values(outages=judged.outages + is_outage)).rowcount == 1

    def update_batches(self) -> None:
        """What time brings: windows that open and close, quotas that reset, probes, the end of an outage, canaries that
        are done. Called at every tick."""
        with self._database.writing() as connection:
            self._go_on(connection)
            for batch in connection.execute(_WATCHED).all():
                if batch.outages and judgement.is_pingone_back(connection, batch, self._thresholds):
                    connection.execute(update(Batch).where(Batch.id == batch.id).values(outages=0))
                if batch.trial_row is not None:
                    self._try_out(connection, batch.id, batch.trial_row)
                if batch.canary_row is not None and not self._left(connection, batch.id, batch.canary_row):
                    self._pause(connection, batch.id, PauseReason.CANARY)
            self._close(connection)

    def _try_out(self, connection: Connection, batch_id: int, trial_row: int) -> None:
        """The first records of a batch in an unknown environment: one that is active lets the others go."""
        first = select(Record.id).where(Record.batch_id == batch_id, Record.row_number <= trial_row)
        if connection.scalar(first.where(Record.status == Status.ACTIVE).limit(1)) is not None:
            connection.execute(update(Batch).where(Batch.id == batch_id).values(trial_row=None))
        elif not self._left(connection, batch_id, trial_row):
            self._pause(connection, batch_id, PauseReason.TRIAL)

    def _go_on(self, connection: Connection) -> None:
        """Windows that open, quotas that reset; and outages that may be over: there the batch runs again, and the
        dispatcher lets only a few records go at first."""
        for batch_id in connection.scalars(self._due_again).all():
            self._apply_hours(connection, batch_id, partial(hours.let_run, sources=(BatchState.PAUSED,)))

    def _close(self, connection: Connection) -> None:
        """Windows that closed. A batch that an earlier version let run has not been told when its window does."""
        for batch_id in connection.scalars(self._due_to_close).all():
            self._apply_hours(connection, batch_id, hours.check_hours)

    def _apply_hours(
        self, connection: Connection, batch_id: int, step: Callable[[Database, Connection, int], object]
    ) -> None:
        """Where this machine's time zones are older than those of the machine that loaded the batch, only that batch
        must stop."""
        try:
            step(self._database, connection, batch_id)
        except UnfitHours as error:
            detail = f"Its daily window cannot be read here: {error}. Update tzdata, then resume."
            stopped = state.pause(_STOPPABLE, PauseReason.INTERNAL, detail)
            connection.execute(stopped.where(Batch.id == batch_id))

    def _left(self, connection: Connection, batch_id: int, canary_row: int) -> int:
        left = select(func.count()).where(
            Record.batch_id == batch_id, Record.row_number <= canary_row, text(f"record.{NOT_FINAL}")
        )
        return connection.scalar(left) or 0

    def _pause(
        self, connection: Connection, batch_id: int, reason: PauseReason, detail: str | None = None, **times: Any
    ) -> bool:
        """False if the batch did not run any more."""
        paused = state.pause(_STOPPABLE, reason, detail, **times)
        return connection.execute(paused.where(Batch.id == batch_id, _is_worked_on())).rowcount == 1


def _is_worked_on() -> ColumnElement[bool]:
    """It runs; or it did until its window closed or its quota was used up: what its last calls brought to light is told
    then, and not when it would have gone on."""
    return or_(Batch.state == BatchState.RUNNING, and_(Batch.state == BatchState.PAUSED, Batch.reason.in_(_WAITS)))


# Batches that only a part of may go.
_WATCHED = select(*judgement.JUDGED_COLUMNS, Batch.canary_row, Batch.trial_row).where(
    _is_worked_on(), or_(Batch.canary_row.is_not(None), Batch.trial_row.is_not(None), Batch.outages > 0)
)
