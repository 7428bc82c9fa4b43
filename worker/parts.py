"""The parts of a worker process, put together: its clients, and what works with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, partial

from celery import Celery, Task

from models.reason import PauseReason
from worker import breaker
from worker.activation import Activation
from worker.audit import SCHEDULE
from worker.batches import Batches
from worker.clients import Clients
from worker.config import ConfigError, Environment, Settings
from worker.dispatch import Dispatcher
from worker.keyring import load_keyring
from worker.leases.claim import Claim
from worker.leases.queue import Queue
from worker.leases.worker import Leases
from worker.publishing import CeleryBroker
from worker.quota import Quota
from worker.steps import DeadLetter, Decision, Pause, Retry
from worker.tending import Tending


class Parts(Clients):
    """Built when first asked for, so that importing the tasks opens no connection."""

    def __init__(self, settings: Settings, load: Callable[[str], Environment] | None = None) -> None:
        super().__init__(settings, load)
        # Set when the worker is asked to end: what is in hand is finished, and nothing else begun.
        self.stopping = threading.Event()
        self._ticking = threading.Lock()

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.database, lease=self.settings.lease, max_attempts=self.settings.max_attempts)

    @cached_property
    def queue(self) -> Queue:
        settings = self.settings
        return Queue(
            self.database,
            send_within=settings.send_within,
            call_deadline=settings.call_deadline,
            read_delay=settings.read_delay,
        )

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.database, SCHEDULE)

    @cached_property
    def tending(self) -> Tending:
        return Tending(self.database, self.thresholds)

    @property
    def thresholds(self) -> breaker.Thresholds:
        settings = self.settings
        return breaker.Thresholds(
            forbidden=settings.breaker_forbidden,
            refused=settings.breaker_refused,
            refused_share=settings.breaker_refused_share,
            unanswered=settings.breaker_unanswered,
        )

    def activation(self, name: str) -> Activation:
        """This thread's own, since its HTTP client is."""
        mine: dict[str, Activation] = self._thread.__dict__.setdefault("activations", {})
        if name not in mine:
            mine[name] = self._activation(self.environment(name))
        return mine[name]

    def dispatcher(self, app: Celery, task: Task, queue: str) -> Dispatcher:
        return Dispatcher(
            self.database,
            self.queue,
            CeleryBroker(app, task, queue),
            self.settings,
            environment=self.environment,
            pace=self.pace,
            pause=self.tending.pause,
            tend=self.tending.tend,
            keep=self.paces.keep,
            ticking=self._ticking,
        )

    def _activation(self, environment: Environment) -> Activation:
        return Activation(
            environment,
            self.settings,
            self.leases,
            self.client(environment.name),
            self.pace(environment),
            load_keyring(self.settings),
            partial(self._settled, environment.license),
            self.stopping.is_set,
            self._misconfigured,
        )

    def _license(self, name: str) -> str | None:
        """Of an environment; None where it is not configured here."""
        try:
            return self.environment(name).license
        except ConfigError:
            return None

    def _misconfigured(self, batch_id: int) -> None:
        self.tending.pause(batch_id, PauseReason.ENVIRONMENT)

    def _settled(self, license: str, claim: Claim, decision: Decision) -> None:
        """What a settled record may mean for its batch; and a quota, for all batches of the license."""
        match decision:
            case Pause(quota=Quota() as spent):
                self.tending.pause_for_quota(spent, lambda name: self._license(name) == license)
            case Pause(reason=reason):
                self.tending.pause(claim.batch_id, reason)
            case DeadLetter(reason=why) if why in breaker.WATCHED_REASONS:
                self.tending.judge_settled(claim.batch_id)
            case Retry(why=failure) if failure in breaker.WATCHED_FAILURES:
                self.tending.judge_attempts(claim.batch_id)
