"""The PingOne environments that one process works for, each read once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker.config.environment import Environment
from worker.config.settings import ConfigError


class Environments:
    """Environments by name; thread-safe. `load` reads one from the configuration and raises ConfigError."""

    def __init__(self, load: Callable[[str], Environment]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._known: dict[str, Environment] = {}

    def get(self, name: str) -> Environment:
        """The environment of this name. Raises ConfigError where it is not configured here."""
        with self._lock:
            if name not in self._known:
                self._known[name] = self._load(name)
            return self._known[name]

    def reread(self, environment: Environment) -> Environment:
        """Read the credentials of an environment anew, since they may have been changed while this process runs. The
        environment as it is where that cannot be read."""
        try:
            newer = self._load(environment.configured_name)
        except ConfigError as error:
            # Not at the top: only a worker whose credentials were refused has this to say.
            import structlog

            structlog.get_logger().warning("credentials_not_read", environment=environment.name, why=str(error))
            return environment
        return environment.with_credentials_of(newer)

    def license_of(self, name: str) -> str | None:
        """The license of an environment; None where it is not configured here."""
        try:
            return self.get(name).license
        except ConfigError:
            return None

    def known(self) -> list[Environment]:
        """Environments that this process has asked for so far."""
        with self._lock:
            return list(self._known.values())
