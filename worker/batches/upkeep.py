"""Pauses batches and resumes them without a person. A batch pauses when its canary is done, its hours end, the quota of
the license is used up or PingOne is unavailable; or when a settled record or a failure of this process calls for it.
The module `evidence` chooses the attempts by which the breaker judges a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, text, update

from models.batch import Batch, BatchState
from models.encrypted import DecryptionError
from models.reason import PAUSE_CURES, PauseReason
from models.record import Record
from models.record_indexes import NOT_FINAL, ON_THE_TABLE
from models.record_states import Status
from worker.batches import hours, state
from worker.batches.evidence import (
    JUDGED_COLUMNS,
    JudgedBatch,
    find_silence,
    read_evidence,
    read_latest_reasons,
    was_answered,
)
from worker.batches.long_list import may_go
from worker.config.environment import Environment, Environments
from worker.database.engine import Database
from worker.fleet import NETWORK, Fitness, Sickness, count_well
from worker.rules import breaker, quota
from worker.rules.breaker import NO_ANSWER, WATCHED_FAILURES, Thresholds, Trip
from worker.rules.hours import UnfitHours
from worker.rules.quota import Quota
from worker.rules.steps import Active, Decision, Pause, Retry

if TYPE_CHECKING:
    from worker.leases.lease import Claim

# A batch with one of these pause reasons waits only until a certain time.
_WAITS = (PauseReason.WINDOW, PauseReason.QUOTA)
# States in which a batch may be paused because of what its attempts showed.
_STOPPABLE = (BatchState.RUNNING, BatchState.PAUSED)


class Upkeep:
    """Pauses and resumes batches without a person; thread-safe."""

    def __init__(self, database: Database, thresholds: Thresholds) -> None:
        self._database = database
        self._thresholds = thresholds
        now = database.now()
        is_over = or_(
            and_(Batch.reason == PauseReason.OUTAGE, Batch.probe_at <= now),
            and_(Batch.reason.in_(_WAITS), Batch.resumes_at <= now),
        )
        due_again = select(Batch.id).where(Batch.state == BatchState.PAUSED, is_over)
        # The batches are locked, since one that is being cancelled must not run again. Batches that a command has
        # locked are skipped.
        self._due_again = due_again.with_for_update(skip_locked=True)
        has_ended = or_(Batch.closes_at <= now, and_(Batch.daily_window.is_not(None), Batch.closes_at.is_(None)))
        due_to_pause = select(Batch.id).where(Batch.state == BatchState.RUNNING, has_ended)
        self._due_to_pause = due_to_pause.with_for_update(skip_locked=True)
        # Whether `update_batches` has something to do.
        self.is_due = or_(due_again.exists(), _WATCHED.exists(), due_to_pause.exists())

    def pause(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """Pause a batch for something that only a person can fix. False if the batch no longer runs."""
        with self._database.writing() as connection:
            return self._pause(connection, batch_id, reason, detail)

    def pause_for_quota(self, used_up: Quota, shares: Callable[[str], bool]) -> None:
        """Pause every running batch of the license until its quota resets. `shares` says whether the environment with a
        given name belongs to that license."""
        with self._database.writing() as connection:
            resumes_at = connection.execute(select(self._database.now(used_up.resets_in))).scalar_one()
            columns = (Batch.id, Batch.environment, Batch.daily_window, Batch.zone)
            running = select(*columns).where(Batch.state == BatchState.RUNNING).order_by(Batch.id)
            for batch in connection.execute(running).all():
                if shares(batch.environment):
                    daily_hours = f"{batch.daily_window} {batch.zone}" if batch.daily_window else None
                    detail = quota.explain_quota(used_up, resumes_at, daily_hours)
                    self._pause(connection, batch.id, PauseReason.QUOTA, detail, resumes_at=resumes_at)

    def apply_breaker(self, batch_id: int) -> PauseReason | None:
        """Let the breaker judge a batch by its latest attempts, and pause the batch if the verdict requires it. Returns
        the reason if the batch was paused. A batch that pauses for an outage resumes by itself, with a few records at
        first."""

        def judge(connection: Connection, batch: JudgedBatch) -> Trip | None:
            is_probing = batch.outages > 0
            has_others = is_probing and count_well(self._database, connection) > 1
            failures, history = read_evidence(connection, batch, self._thresholds)
            return breaker.find_trip(failures, history, self._thresholds, is_probing=is_probing, has_others=has_others)

        return self._judge(batch_id, judge)

    def look_for_others(self, batch_id: int) -> PauseReason | None:
        """Pause a batch if its latest attempts show that somebody else works on its devices. Returns the reason if it
        was paused."""

        def judge(connection: Connection, batch: JudgedBatch) -> Trip | None:
            reasons = read_latest_reasons(connection, batch, self._thresholds.latest)
            return breaker.find_others(reasons, self._thresholds)

        return self._judge(batch_id, judge)

    def fails_alone(self, batch_id: int, worker: str) -> bool:
        """Whether a batch's latest attempts show that PingOne answers other worker processes but not this one."""
        with self._database.reading() as connection:
            batch = self._read_judged(connection, batch_id)
            if batch is None:
                return False
            alone = breaker.find_alone(*read_evidence(connection, batch, self._thresholds))
        return sum(failure.worker == worker for failure in alone) >= breaker.UNANSWERED_ALONE

    def read_latest_attempt(self) -> int:
        """Read the id of the newest attempt of all batches."""
        with self._database.reading() as connection:
            return connection.scalar(select(hours.latest_attempt())) or 0

    def pause_for_outage(self, batch_id: int, detail: str, *, after: int) -> None:
        """Pause a batch for an outage, since PingOne does not answer its preparation. If PingOne answered an attempt
        with an id larger than `after`, the batch keeps running: prepared records still succeed."""

        def judge(connection: Connection, batch: JudgedBatch) -> Trip | None:
            is_there = was_answered(connection, batch, self._thresholds, after)
            return None if is_there else Trip(PauseReason.OUTAGE, detail)

        self._judge(batch_id, judge)

    def end_outage(self, batch_id: int) -> None:
        """End the probing of a batch, since PingOne answers its preparation, unless its attempts still get no
        answer."""
        with self._database.writing() as connection:
            batch = self._read_judged(connection, batch_id)
            if batch is not None and find_silence(connection, batch) is None:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(outages=0))

    def _read_judged(self, connection: Connection, batch_id: int) -> JudgedBatch | None:
        """Read what the breaker needs to know about a batch; None if nobody works on the batch."""
        of_batch = select(*JUDGED_COLUMNS).where(Batch.id == batch_id, _is_worked_on())
        return connection.execute(of_batch).one_or_none()

    def _judge(self, batch_id: int, judge: Callable[[Connection, JudgedBatch], Trip | None]) -> PauseReason | None:
        """Judge a batch, and pause it if the verdict requires it. Returns the reason if it was paused. Leaves a batch
        alone that stopped or began to run again during the judgment."""
        with self._database.reading() as connection:
            judged = self._read_judged(connection, batch_id)
            if judged is None or (trip := judge(connection, judged)) is None:
                return None
        is_outage = trip.reason == PauseReason.OUTAGE
        probe_at = self._database.now(breaker.choose_probe_delay(judged.outages)) if is_outage else None
        change = state.pause(_STOPPABLE, trip.reason, trip.detail, probe_at=probe_at).where(
            Batch.id == judged.id,
            _is_worked_on(),
            Batch.judged_after == judged.judged_after,
            Batch.running_after == judged.running_after,
        )
        with self._database.writing() as connection:
            is_paused = connection.execute(change.values(outages=judged.outages + is_outage)).rowcount == 1
        return trip.reason if is_paused else None

    def update_batches(self) -> None:
        """Pause and resume batches as time and their records require: at the beginning and end of hours, when quotas
        reset, for probes, after an outage, and after canaries and trials. Called at every tick at which `is_due`
        holds."""
        with self._database.writing() as connection:
            # A batch that was paused for an outage runs only a few records at first; the dispatcher limits them.
            for batch_id in connection.scalars(self._due_again).all():
                self._apply_hours(connection, batch_id, partial(hours.let_run, sources=(BatchState.PAUSED,)))
            for batch in connection.execute(_WATCHED).all():
                if batch.outages and was_answered(connection, batch, self._thresholds):
                    connection.execute(update(Batch).where(Batch.id == batch.id).values(outages=0))
                if batch.trial is not None:
                    self._check_trial(connection, batch.id, batch.trial)
                if batch.canary is not None and self._are_first_done(connection, batch.id, batch.canary):
                    self._pause(connection, batch.id, PauseReason.CANARY)
            # After a jump of the clock, the end of these batches' hours is not written down yet: this writes it down.
            for batch_id in connection.scalars(self._due_to_pause).all():
                self._apply_hours(connection, batch_id, hours.check_hours)

    def end_trials(self, environment_id: str) -> None:
        """End the trials of this environment's batches, since the cause of their failures was found; from now on the
        breaker judges them."""
        with self._database.writing() as connection:
            in_trial = update(Batch).where(Batch.environment_id == environment_id, Batch.trial.is_not(None))
            connection.execute(in_trial.values(trial=None, **state.READ_ANEW))

    def _check_trial(self, connection: Connection, batch_id: int, trial: int) -> None:
        """Let the rest of a batch run once one of its first records is active; pause it if all of those are final and
        none is active."""
        first = select(Record.id).where(*may_go(batch_id, trial))
        if connection.scalar(first.where(Record.status == Status.ACTIVE).limit(1)) is not None:
            connection.execute(update(Batch).where(Batch.id == batch_id).values(trial=None, **state.READ_ANEW))
        elif self._are_first_done(connection, batch_id, trial):
            self._pause(connection, batch_id, PauseReason.TRIAL)

    def _apply_hours(
        self, connection: Connection, batch_id: int, step: Callable[[Database, Connection, int], object]
    ) -> None:
        """Run a step that reads the hours of a batch. If they cannot be read, since the time zones on this machine are
        older than on the machine that loaded the batch, pause only this batch."""
        try:
            step(self._database, connection, batch_id)
        except UnfitHours as error:
            detail = f"This machine cannot read its daily window: {error}. Update tzdata, then resume."
            stopped = state.pause(_STOPPABLE, PauseReason.INTERNAL, detail)
            connection.execute(stopped.where(Batch.id == batch_id))

    def _are_first_done(self, connection: Connection, batch_id: int, first: int) -> bool:
        """Whether the `first` records are all final. While tokens wait to be given out, False until this many have
        been given out."""
        unfinished = select(Record.id).where(*may_go(batch_id, first), text(f"record.{NOT_FINAL}")).limit(1)
        if connection.scalar(unfinished) is not None:
            return False
        on_the_table = select(Record.id).where(Record.batch_id == batch_id, text(ON_THE_TABLE)).limit(1)
        given_out = select(func.count()).where(*may_go(batch_id, first))
        return connection.scalar(on_the_table) is None or connection.scalar(given_out) == first

    def _pause(
        self, connection: Connection, batch_id: int, reason: PauseReason, detail: str | None = None, **times: Any
    ) -> bool:
        """Pause a batch; False if the batch no longer runs."""
        paused = state.pause(_STOPPABLE, reason, detail, **times)
        return connection.execute(paused.where(Batch.id == batch_id, _is_worked_on())).rowcount == 1


def _is_worked_on() -> ColumnElement[bool]:
    """Whether a batch runs, or waits only for its hours or a quota. In both cases calls of the batch may still be under
    way, and their results count."""
    return or_(Batch.state == BatchState.RUNNING, and_(Batch.state == BatchState.PAUSED, Batch.reason.in_(_WAITS)))


# Batches that run only some of their records: a canary, a trial, or a probe after an outage.
_WATCHED = select(*JUDGED_COLUMNS, Batch.canary, Batch.trial).where(
    _is_worked_on(), or_(Batch.canary.is_not(None), Batch.trial.is_not(None), Batch.outages > 0)
)


class Consequences:
    """Pauses batches, or ends this process if others can do its work. Thread-safe."""

    def __init__(self, upkeep: Upkeep, fitness: Fitness, environments: Environments) -> None:
        self._upkeep = upkeep
        self._fitness = fitness
        self._environments = environments

    def apply_decision(self, environment: Environment, claim: Claim, decision: Decision, posts: int) -> None:
        """Do what the decision about a settled attempt requires: pause its batch, pause every batch of a license whose
        quota is used up, or let the breaker judge the batch. `posts`: OTPs that the attempt has spent."""
        match decision:
            case Active(why=None):
                return
            case Active():
                self._upkeep.look_for_others(claim.batch_id)
            case Pause(quota=Quota() as quota):
                self.pause_for_quota(environment, quota)
            case Pause(reason=reason, is_own=True, detail=detail):
                self.stop_process_or_batch(claim.batch_id, reason, detail)
            case Pause(reason=reason, detail=detail):
                self.pause(claim.batch_id, reason, detail)
            case Retry(why=why) if not posts and why not in WATCHED_FAILURES:
                return
            case Retry(why=why) if why in NO_ANSWER and self._end_if_alone(claim.batch_id):
                return
            case _:
                self._upkeep.apply_breaker(claim.batch_id)

    def pause(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """Pause a batch for something that only a person can fix. False if the batch no longer runs."""
        return self._upkeep.pause(batch_id, reason, detail)

    def pause_for_quota(self, environment: Environment, quota: Quota) -> None:
        """Pause every batch of this environment's license until its quota resets."""
        license_of = self._environments.license_of
        self._upkeep.pause_for_quota(quota, lambda name: license_of(name) == environment.license)

    def stop_process_or_batch(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """End this process, since the failure may be limited to it. If no other process is healthy, pause the
        batch instead. False: the batch was not paused."""
        if self._fitness.fall_sick(Sickness(reason, detail or PAUSE_CURES[reason])):
            return False
        return self.pause(batch_id, reason, detail)

    def _end_if_alone(self, batch_id: int) -> bool:
        """End this process if PingOne answers other processes but not this one. Returns whether this process ends."""
        if not self._upkeep.fails_alone(batch_id, self._fitness.name):
            return False
        detail = "PingOne's answers do not arrive here, but other processes get theirs: check this machine's proxy"
        return self._fitness.fall_sick(Sickness(NETWORK, f"{detail} and network."))


def explain_decryption_failure(failure: DecryptionError) -> str:
    """Explain why OTPs cannot be decrypted, in a sentence for a person."""
    return f"An OTP or seed cannot be decrypted: {failure}. Nothing is lost: fix that, then resume."
