"""The parts of a worker process, put together: its clients, and what works with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, partial

from celery import Celery, Task

from models.reason import PAUSE_CURES, PauseReason
from worker.audit import the_schedule
from worker.batches.commands import Batches
from worker.batches.upkeep import Tending
from worker.clocks.clock_watch import ClockWatch
from worker.config.settings import ConfigError, Environment, Settings
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.publishing import CeleryBroker
from worker.fleet.fitness import Fitness
from worker.fleet.processes import Processes, Sickness, name_this_process
from worker.journal.writer import FileJournal, Journal, NoJournal
from worker.leases.claim import Claim
from worker.leases.queue import Queue
from worker.leases.worker import Leases
from worker.pingone.clock_drift import measure_drift
from worker.pingone.errors import PingOneError
from worker.process.clients import Clients
from worker.records.activation import Activation
from worker.rules import breaker
from worker.rules.quota import Quota
from worker.rules.steps import Active, Decision, Pause, Retry
from worker.vault.keyring import load_keyring

# The word for a process that cannot reach PingOne while others do.
NETWORK = "network"


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
    def journal(self) -> Journal:
        directory = self.settings.journal_directory
        return FileJournal(directory) if directory else NoJournal()

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.database, the_schedule(self.settings))

    @cached_property
    def processes(self) -> Processes:
        return Processes(self.database, name_this_process())

    @cached_property
    def clock_watch(self) -> ClockWatch:
        """One a process: it remembers from tick to tick."""
        return ClockWatch()

    @cached_property
    def fitness(self) -> Fitness:
        return Fitness(self.processes, self._is_well_again)

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
            spent=settings.breaker_spent,
            unanswered=settings.breaker_unanswered,
        )

    def activate(self, record_id: int, name: str) -> None:
        """Take one record of the environment of this name a step further."""
        try:
            activation = self.activation(name)
        except ConfigError as error:
            if not self.fitness.fall_sick(Sickness(PauseReason.ENVIRONMENT, str(error))):
                raise
            self.leases.hand_back(record_id, 0.0)
            return
        activation.run(record_id)

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
            pause=self._stop,
            tend=self.tending.tend,
            keep=self.paces.synchronize,
            processes=self.processes,
            clock_watch=self.clock_watch,
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
            lambda: self.stopping.is_set() or self.fitness.is_sick,
            self._misconfigured,
            self.journal,
        )

    def _license(self, name: str) -> str | None:
        """Of an environment; None where it is not configured here."""
        try:
            return self.environment(name).license
        except ConfigError:
            return None

    def failed_alone(self, why: str) -> None:
        """This process cannot reach PingOne, and others can: it takes no more work until it can."""
        self.fitness.fall_sick(Sickness(NETWORK, why))

    def _misconfigured(self, batch_id: int) -> None:
        self._stop(batch_id, PauseReason.ENVIRONMENT)

    def _stop(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """What may be wrong with this process alone takes it out of work; where no other one is well, it pauses the
        batch. False: the batch was not paused."""
        if self.fitness.fall_sick(Sickness(reason, detail or PAUSE_CURES[reason])):
            return False
        return self.tending.pause(batch_id, reason, detail)

    def _is_well_again(self, reason: str) -> bool:
        """Whether what took this process out of work is over. Only a restart mends a wrong key or environment."""
        try:
            for environment in self.known_environments():
                if reason == PauseReason.CREDENTIALS:
                    self.access_tokens(environment).get()
                else:
                    measure_drift(environment, deadline=self.settings.call_deadline)
        except PingOneError:
            return False
        return reason in (NETWORK, PauseReason.CREDENTIALS)

    def _settled(self, license: str, claim: Claim, decision: Decision, posts: int) -> None:
        """What a settled record may mean for its batch; and a quota, for all batches of the license."""
        match decision:
            case Active():
                return
            case Pause(quota=Quota() as spent):
                self.tending.pause_for_quota(spent, lambda name: self._license(name) == license)
            case Pause(reason=reason, is_own=True):
                self._stop(claim.batch_id, reason)
            case Pause(reason=reason):
                self.tending.pause(claim.batch_id, reason)
            case Retry(why=why) if not posts and why not in breaker.WATCHED_FAILURES:
                return
            case _:
                self.tending.judge(claim.batch_id)
