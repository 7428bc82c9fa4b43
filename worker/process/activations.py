"""Gives each thread of a process its own Activation for each environment, since an HTTP client belongs to one
thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from models.reason import PauseReason
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError
from worker.fleet import Fitness, Sickness
from worker.leases.worker import Leases
from worker.records.activation import Activation
from worker.records.outcome import WORKER_ENDS, fail_if_dead_letter


class Activations:
    """The activations of one process; thread-safe. `make` builds an Activation for the calling thread."""

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
