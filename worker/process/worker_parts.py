"""The parts that only a worker and its ticks have: leases, activations, the dispatcher, and the upkeep of batches."""

from __future__ import annotations

import threading
from collections.abc import Callable

from models.reason import PauseReason
from worker.audit import the_schedule, the_worker
from worker.batches.commands import Batches
from worker.batches.long_list import Turns
from worker.batches.preparation import Failures, People, Preparation
from worker.batches.upkeep import Consequences, Upkeep
from worker.clocks import ClockWatch
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError, Settings
from worker.dispatch import Broker, Dispatcher
from worker.fleet import NETWORK, Fitness, Processes, Sickness, name_this_process
from worker.leases.queue import Queue
from worker.leases.worker import Leases
from worker.notices.outbox import Notifier, make_notifier
from worker.process.part import part
from worker.process.parts import Parts
from worker.records import WORKER_ENDS, Activation, fail_if_dead_letter
from worker.rules.breaker import Thresholds
from worker.tenants import LearntResync, Resync


class Activations:
    """The activations of one process, one for each thread and environment, since an HTTP client belongs to one thread.
    Thread-safe. `make` builds an Activation for the calling thread."""

    def __init__(
        self, environments: Environments, leases: Leases, fitness: Fitness, make: Callable[[Environment], Activation]
    ) -> None:
        self._environments = environments
        self._leases = leases
        self._fitness = fitness
        self._make = make
        self._thread = threading.local()

    def run(self, record_id: int, name: str) -> str:
        """Make an attempt at one record of the environment of this name, and say how it ended. Raises DeadLettered if
        that is with a dead letter. Where the environment is not configured here, and another process is well, the
        record goes back and this process ends; otherwise raises ConfigError."""
        try:
            activation = self.of(name)
        except ConfigError as error:
            if not self._fitness.fall_sick(Sickness(PauseReason.ENVIRONMENT, str(error))):
                raise
            self._leases.hand_back(record_id, 0.0)
            return WORKER_ENDS
        return fail_if_dead_letter(activation.run(record_id))

    def of(self, name: str) -> Activation:
        """The calling thread's activation for the environment of this name. Raises ConfigError."""
        mine: dict[str, Activation] = self._thread.__dict__.setdefault("activations", {})
        if name not in mine:
            mine[name] = self._make(self._environments.get(name))
        return mine[name]


class WorkerParts(Parts):
    """Builds the parts of a worker. `broker`: where the dispatcher publishes; `only_batch`: the id of the batch on
    which this process works alone, None if it works on all."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        load: Callable[[str], Environment] | None = None,
        *,
        only_batch: int | None = None,
    ) -> None:
        super().__init__(settings, load)
        self._only_batch = only_batch
        # Set when the worker is asked to end: it finishes the records in hand, and begins no others.
        self.stopping = threading.Event()
        self._broker = broker

    @part
    def leases(self) -> Leases:
        return Leases(self.database, lease=self.settings.tuning.lease, max_attempts=self.settings.max_attempts)

    @part
    def processes(self) -> Processes:
        return Processes(self.database, name_this_process())

    @part
    def fitness(self) -> Fitness:
        return Fitness(self.processes)

    def handle_failing_alone(self, why: str) -> None:
        """End this process, where others reach PingOne."""
        self.fitness.fall_sick(Sickness(NETWORK, why))

    @part
    def upkeep(self) -> Upkeep:
        return Upkeep(self.database, Thresholds(**self.settings.tuning.breaker))

    @part
    def consequences(self) -> Consequences:
        return Consequences(self.upkeep, self.fitness, self.environments)

    @part
    def replays(self) -> Batches:
        """Commands on batches, as the replay schedule gives them."""
        return Batches(self.database, the_schedule(self.settings))

    def replay_by_schedule(self) -> None:
        """Replay the dead letters that time alone may mend. Without a schedule nothing is: the message is not beat's
        then, and whoever can write to the broker is not a person who commands."""
        if self.settings.replay_cron:
            self.replays.replay_transient()

    @part
    def activations(self) -> Activations:
        return Activations(self.environments, self.leases, self.fitness, self._make_activation)

    def _make_activation(self, environment: Environment) -> Activation:
        return Activation(
            environment,
            self.settings,
            self.leases,
            self.clients.of(environment),
            self.clients.pairings(environment),
            self.paces.of(environment),
            self.keyring,
            self.consequences,
            is_stopping=lambda: self.stopping.is_set() or self.fitness.is_sick,
            clock=self.clients.clock(environment),
            resync=self._make_resync(environment),
        )

    def _make_resync(self, environment: Environment) -> Resync:
        if environment.resync_on_first_call is not None:
            return Resync(environment.resync_on_first_call)
        return LearntResync(
            self.database, environment.environment_id, the_worker(self.settings), self.upkeep.end_trials
        )

    @part
    def preparation(self) -> Preparation:
        return Preparation(
            self.database,
            self.environments,
            self.clients,
            Turns(self.database, self._only_batch),
            People(self.database, self.settings.tuning.names_per_request),
            self.tokens,
            Failures(self.consequences, longest_hold=self.settings.tuning.longest_hold),
            self.upkeep,
            self.wait,
            is_stopping=lambda: self.stopping.is_set() or self.fitness.is_sick,
        )

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until this process stops."""
        self.stopping.wait(seconds)

    @part
    def queue(self) -> Queue:
        return Queue(self.database, lease=self.settings.tuning.lease, over_after=self.settings.tuning.over_after)

    @part
    def notifier(self) -> Notifier:
        return make_notifier(
            self.settings,
            self.database,
            lambda name, environment_id: self.environments.license_of(name) or environment_id,
            self.stopping.is_set,
            only_batch=self._only_batch,
        )

    @part
    def clock_watch(self) -> ClockWatch:
        return ClockWatch()

    @part
    def dispatcher(self) -> Dispatcher:
        """One dispatcher for all ticks: otherwise most of a tick's time would go into building its statements."""
        return Dispatcher(
            self.database,
            self.queue,
            self._broker,
            self.settings,
            self.environments,
            self.paces,
            self.consequences,
            self.upkeep,
            self.pace_memory,
            self.processes,
            self.clock_watch,
            only_batch=self._only_batch,
        )
