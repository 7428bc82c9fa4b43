"""Activates one record for a task: waits for a slot of the pace, claims the record, makes an attempt, and says how that
ended."""

import random
from collections.abc import Callable
from functools import partial
from time import sleep

import structlog
import tenacity

from models.attempt import Failure
from models.encrypted import Keyring
from models.reason import PauseReason
from worker.batches.upkeep import Consequences
from worker.clocks import PingOneClock
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.errors import is_away
from worker.leases.lease import Claim, Leases
from worker.observability.logs import begin_work, end_work
from worker.pace.search import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone.client import Client
from worker.pingone.clients import Pairings
from worker.records.attempt import Attempt, AttemptTools
from worker.rules.decisions import choose_hand_back_delay
from worker.rules.steps import Active, DeadLetter, Decision, Limits, Pause, Progress, Retry
from worker.tenants import Resync

log = structlog.get_logger()

# How many times to try the database while it is away: for about a minute.
DATABASE_TRIES = 60
# Seconds between two tries; random, so that a fleet's workers do not all try at once.
BETWEEN_TRIES = tenacity.wait_random(0.5, 1.5)


class Activation:
    """Activates records of one environment. Each thread has its own object, since an HTTP client is for one thread."""

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        leases: Leases,
        client: Client,
        pairings: Pairings,
        pace: Pace,
        keyring: Keyring,
        consequences: Consequences,
        is_stopping: Callable[[], bool] = lambda: False,
        clock: PingOneClock | None = None,
        resync: Resync | None = None,
    ) -> None:
        self._environment_name = environment.name
        self._environment_id = environment.environment_id
        self._leases = leases
        self._pace = pace
        self._is_stopping = is_stopping
        self._consequences = consequences
        self._tools = AttemptTools(
            leases=leases,
            client=client,
            pairings=pairings,
            pace=pace,
            keyring=keyring,
            clock=clock or PingOneClock(),
            step_margin=settings.tuning.step_margin,
            limits=_read_limits(settings),
            send_within=settings.tuning.send_within,
            last_send=settings.tuning.lease - settings.tuning.lease_left_for_post,
            resync=resync or Resync(bool(environment.resync_on_first_call)),
            on_settled=partial(consequences.apply_decision, environment),
            is_stopping=is_stopping,
        )

    def activate_record(self, record_id: int) -> str:
        """Make an attempt at this record, and say how it ended. A repeated message changes nothing. While the database
        is away, this waits for it: the next messages could not be claimed either, and each message taken off the queue
        would wait for its queue lease to expire."""
        try:
            taken = self._take_up(record_id)
        except Exception as failure:
            if not is_away(failure):
                raise
            self._wait_for_database()
            taken = self._take_up(record_id)
        return taken if isinstance(taken, str) else self._make_attempt(*taken)

    def _wait_for_database(self) -> None:
        """Wait until the database answers, or this process is stopping, for at most DATABASE_TRIES tries. They take
        about a minute, or longer if each has to time out. Raises the last error."""
        tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_away),
            wait=BETWEEN_TRIES,
            stop=lambda state: state.attempt_number >= DATABASE_TRIES or self._is_stopping(),
            before_sleep=_warn_once,
            sleep=lambda seconds: sleep(seconds),
            reraise=True,
        )(self._leases.check_database)

    def _make_attempt(self, claim: Claim, slot: Slot) -> str:
        """Make an attempt, and say how it ended; during the attempt, this thread's log lines name the record."""
        attempt = Attempt(self._tools, claim, slot)
        begin_work(attempt.describe)
        try:
            decision = attempt.make()
        except Exception as failure:
            # Only the failure's type is logged, since its text may quote anything. Celery logs the traceback.
            log.error("attempt_failed", failure=type(failure).__name__)
            raise
        finally:
            end_work()
        return LEASE_LOST if decision is None else describe_outcome(decision, attempt.progress)

    def _take_up(self, record_id: int) -> tuple[Claim, Slot] | str:
        """Wait for a slot and claim the record; or say why this worker may not work on it now. Nothing has been sent to
        PingOne yet."""
        try:
            slot = self._pace.wait()
        except SlotTooFar as far:
            self._leases.hand_back(record_id, choose_hand_back_delay(far))
            return NO_SLOT
        if self._is_stopping():
            self._leases.hand_back(record_id, 0.0)
            return WORKER_ENDS
        claim = self._leases.claim(record_id, self._environment_id, random.random())  # noqa: S311
        if claim is None:
            # Thousands of copies of a message must not use up the pace.
            self._pace.give_back(slot)
            self._handle_missed_claim(record_id)
            return NOTHING_TO_DO
        return claim, slot

    def _handle_missed_claim(self, record_id: int) -> None:
        """Handle a claim that found nothing: a repeated message needs nothing, a record of a stopped batch is handed
        back, and a worker that is configured for another tenant than the batch must stop."""
        self._leases.hand_back_stopped(record_id)
        foreign_batch = self._leases.find_foreign_batch(record_id, self._environment_name, self._environment_id)
        if foreign_batch is not None:
            self._consequences.stop_process_or_batch(foreign_batch, PauseReason.ENVIRONMENT)


def _warn_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1:
        log.warning("database_away", looks=DATABASE_TRIES, meanwhile="the message is kept in hand")


def _read_limits(settings: Settings) -> Limits:
    return Limits(
        posts=settings.otp_post_budget,
        attempts=settings.max_attempts,
        read_delay=settings.tuning.read_delay,
        over_after=settings.tuning.over_after,
        not_found_delay=settings.tuning.not_found_delay,
        longest_hold=settings.tuning.longest_hold,
    )


# How an attempt ended, in a word or two for people who watch tasks in Flower

# The message was repeated, or its record may not be worked on now.
NOTHING_TO_DO = "nothing to do"
NO_SLOT = "handed back: no slot"
WORKER_ENDS = "handed back: the worker is shutting down"
LEASE_LOST = "nothing done: the lease was lost"

_DEAD_LETTER = "dead letter: "


class DeadLettered(Exception):
    """An attempt ended with a dead letter, so that Celery shows a failed task. The text is `dead letter: REASON`."""

    def __repr__(self) -> str:
        return str(self)


# Why a record was handed back, if the word in its history is not clear by itself.
_WHY = {
    Failure.HOLD: "no slot",
    Failure.NOT_PERMITTED: "not permitted now",
    Failure.TIME_STEP: "until the next time step",
}


def describe_outcome(decision: Decision, progress: Progress) -> str:
    """Describe the decision that ended an attempt."""
    match decision:
        case Active():
            return _describe_active(progress)
        case DeadLetter(reason=reason):
            return f"{_DEAD_LETTER}{reason}"
        case Pause(reason=reason):
            return f"handed back: batch paused, {reason}"
        case Retry(is_counted=False, why=why):
            return f"handed back: {_WHY.get(why, why.replace('_', ' '))}"
        case Retry(delay=delay, why=why):
            return f"again in {delay:.0f} s: {why.replace('_', ' ')}"


def fail_if_dead_letter(outcome: str) -> str:
    """Return how an attempt ended. Raises DeadLettered for a dead letter, which is already recorded."""
    if outcome.startswith(_DEAD_LETTER):
        raise DeadLettered(outcome)
    return outcome


def _describe_active(progress: Progress) -> str:
    if progress.second is not None and progress.second.posts:
        return "active after resync"
    return "active" if progress.first.posts else "active, unproved"
