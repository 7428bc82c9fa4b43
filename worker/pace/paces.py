"""The paces of one process, one a license: what one thread learns of a hold or a limit, all threads know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import redis

from worker.config.settings import Environment, Settings
from worker.pace.memory import PaceMemory
from worker.pace.slots import Pace


class Paces:
    """Paces by license; thread-safe. `on_alone` is told, in a sentence, when this process could not reach PingOne while
    another could; `on_lifted` is told the license whose hold a person has lifted."""

    def __init__(
        self,
        redis: redis.Redis,
        memory: PaceMemory,
        settings: Settings,
        *,
        on_alone: Callable[[str], object],
        on_lifted: Callable[[str], object],
    ) -> None:
        self._redis = redis
        self._memory = memory
        self._settings = settings
        self._on_alone = on_alone
        self._on_lifted = on_lifted
        self._lock = threading.Lock()
        self._by_license: dict[str, Pace] = {}

    def of(self, environment: Environment) -> Pace:
        """The pace of the environment's license."""
        with self._lock:
            if environment.license not in self._by_license:
                self._by_license[environment.license] = self._make(environment)
            return self._by_license[environment.license]

    def known(self) -> list[Pace]:
        """Paces of the licenses that this process has worked for so far."""
        with self._lock:
            return list(self._by_license.values())

    def _make(self, environment: Environment) -> Pace:
        return Pace(
            self._redis,
            environment.license,
            environment.rate,
            highest=environment.rate_max,
            recall=partial(self._memory.recall_search, environment.license),
            furthest=self._settings.furthest_slot,
            threads=self._settings.concurrency,
            longest_hold=self._settings.longest_hold,
            on_alone=self._on_alone,
            on_lifted=partial(self._on_lifted, environment.license),
        )
