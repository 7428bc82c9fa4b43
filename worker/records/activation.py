"""Takes one record a step further: waits for a slot of the pace, claims the record, makes an attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from time import sleep

import structlog

from models.encrypted import Keyring
from models.reason import PauseReason
from worker.batches.upkeep import Consequences
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.errors import is_away
from worker.leases.claims import Claim
from worker.leases.worker import Leases
from worker.leases.write_retries import wait_until_back
from worker.observability.logs import begin_work, end_work
from worker.pace.errors import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone.client import Client, PingOneClock
from worker.pingone.clients import Pairings
from worker.records.attempt import Attempt, AttemptTools
from worker.records.outcome import NO_SLOT, NOTHING_TO_DO, WORKER_ENDS
from worker.rules.limits import Limits
from worker.rules.no_effect import choose_hand_back_delay
from worker.tenants import Resync

log = structlog.get_logger()


class Activation:
    """Activates records of one environment. Each thread has one of its own, as its HTTP client is for one thread."""

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

    def run(self, record_id: int) -> str:
        """Make an attempt at this record, and say how it ended. A message that comes twice changes nothing.

        While the database is away, this waits for it: the messages behind could not be claimed either, and each that
        was taken off the queue in vain would wait for its queue lease to run out."""
        try:
            taken = self._take_up(record_id)
        except Exception as failure:
            if not is_away(failure):
                raise
            wait_until_back(self._leases.check_database, self._is_stopping, sleep)
            taken = self._take_up(record_id)
        return taken if isinstance(taken, str) else self._make_attempt(*taken)

    def _make_attempt(self, claim: Claim, slot: Slot) -> str:
        """Make an attempt, and say how it ended; what this thread logs meanwhile names the record."""
        attempt = Attempt(self._tools, claim, slot)
        begin_work(attempt.describe)
        try:
            return attempt.run()
        except Exception as failure:
            # Only its kind, since its text may quote anything. Celery logs the traceback.
            log.error("attempt_failed", failure=type(failure).__name__)
            raise
        finally:
            end_work()

    def _take_up(self, record_id: int) -> tuple[Claim, Slot] | str:
        """Wait for a slot and claim the record; or say why this worker may not work on it now. Nothing has gone to
        PingOne so far."""
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
            self._find_out_why_not(record_id)
            return NOTHING_TO_DO
        return claim, slot

    def _find_out_why_not(self, record_id: int) -> None:
        """Do what follows from a claim that found nothing: a message that came twice needs nothing, a record whose
        batch was stopped goes back, and if this worker is configured for another tenant than the batch, it must
        stop."""
        self._leases.hand_back_stopped(record_id)
        foreign_batch = self._leases.find_foreign_batch(record_id, self._environment_id)
        if foreign_batch is not None:
            self._consequences.stop_process_or_batch(foreign_batch, PauseReason.ENVIRONMENT)


def _read_limits(settings: Settings) -> Limits:
    return Limits(
        posts=settings.otp_post_budget,
        attempts=settings.max_attempts,
        read_delay=settings.tuning.read_delay,
        over_after=settings.tuning.over_after,
        not_found_delay=settings.tuning.not_found_delay,
        longest_hold=settings.tuning.longest_hold,
    )
