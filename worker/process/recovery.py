"""Finds out whether what took this process out of work is over."""

from __future__ import annotations

from models.reason import PauseReason
from worker.config.environments import Environments
from worker.pingone.clients import Clients
from worker.pingone.clock_drift import measure_drift
from worker.pingone.errors import PingOneError

# The reason of a process that cannot reach PingOne while others do.
NETWORK = "network"


class Recovery:
    """Asks PingOne with the credentials and the network of this process. `deadline` of each request in seconds."""

    def __init__(self, environments: Environments, clients: Clients, deadline: float) -> None:
        self._environments = environments
        self._clients = clients
        self._deadline = deadline

    def is_over(self, reason: str) -> bool:
        """Whether a process that took no work for this reason may take work again. Only a restart mends a wrong key or
        environment."""
        try:
            for environment in self._environments.known():
                if reason == PauseReason.CREDENTIALS:
                    self._clients.access_tokens(environment).get()
                else:
                    measure_drift(environment, deadline=self._deadline)
        except PingOneError:
            return False
        return reason in (NETWORK, PauseReason.CREDENTIALS)
