"""The paces of one process, one for each rate group of a license: what one thread learns of a hold or a limit, all
threads know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import redis

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.memory import PaceMemory
from worker.pace.rate_groups import RateGroup, choose_rates
from worker.pace.slots import Pace


class Paces:
    """Paces by license and rate group; thread-safe. `on_alone` is told, in a sentence, when this process could not
    reach PingOne while another could; `on_lifted` is told the license whose hold a person has lifted."""

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
        self._known: dict[tuple[str, RateGroup], Pace] = {}

    def of(self, environment: Environment, group: RateGroup = RateGroup.MFA) -> Pace:
        """The pace of the environment's license in this rate group."""
        with self._lock:
            if (environment.license, group) not in self._known:
                self._known[environment.license, group] = self._make(environment, group)
            return self._known[environment.license, group]

    def known(self) -> list[Pace]:
        """Paces of the licenses that this process has worked for so far, in the group that activations belong to: how
        many threads a worker needs is judged by these."""
        with self._lock:
            return [pace for (_, group), pace in self._known.items() if group is RateGroup.MFA]

    def _make(self, environment: Environment, group: RateGroup) -> Pace:
        rate, highest = choose_rates(group, environment.rate, environment.rate_max)
        # The database remembers the limit of MFA alone: what is asked of the other groups is over within minutes. But a
        # share is of the license.
        if group is RateGroup.MFA:
            recall = partial(self._memory.recall_search, environment.license)
        else:
            recall = partial(self._memory.recall_share, environment.license, rate)
        return Pace(
            self._redis,
            environment.license,
            rate,
            group,
            highest=highest,
            recall=recall,
            furthest=self._settings.tuning.furthest_slot,
            threads=self._settings.concurrency,
            longest_hold=self._settings.tuning.longest_hold,
            on_alone=self._on_alone,
            on_lifted=partial(self._on_lifted, environment.license),
        )
