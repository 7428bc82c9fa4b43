"""One running simulator: its world, its settings, and what it has seen so far."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from worker.simulator.access import Access
from worker.simulator.answers import Answer
from worker.simulator.call_log import CallLog
from worker.simulator.faults import Faults
from worker.simulator.limits import Limit, Quota, limit_answer, quota_answer
from worker.simulator.seeding import WorldSeed, add_devices
from worker.simulator.settings import Settings
from worker.simulator.tally import Tally
from worker.simulator.world import World


class Simulation:
    """What all calls share. Its methods may be called from any thread; a call holds `lock` while it acts."""

    def __init__(self, settings: Settings | None = None, call_log: CallLog | None = None) -> None:
        self.lock = threading.RLock()
        self.call_log = call_log or CallLog(salt=secrets.token_hex(16))
        self._initial = settings or Settings()
        self.settings: Settings
        self._start_afresh()
        self.seed(WorldSeed())

    def wall(self) -> float:
        """The simulated service's own clock, as Unix time."""
        return time.time() + self.settings.clock_skew

    def seed(self, seed: WorldSeed) -> None:
        """Add the seed's client and devices, change the settings that it names. Raises ValidationError."""
        with self.lock:
            if seed.settings:
                self.change(seed.settings)
            self.access.clients[seed.client_id] = seed.client_secret
            add_devices(self.world, seed, self.wall())

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings by name, effective from the next call on. Raises ValidationError."""
        with self.lock:
            former, self.settings = self.settings, self.settings.changed(changes)
            if _limits(former) != _limits(self.settings):
                self.limit = Limit(self.settings)
            if _quota(former) != _quota(self.settings):
                self.quota = Quota(self.settings)

    def admit(self, now: float) -> Answer | None:
        """Hold one request against limit and quota, and tally it: None, or the refusal of one that is over them."""
        with self.lock:
            wait = self.limit.take(now)
            resets_in = self.quota.take(now) if wait is None else None
            self.tally.note(now, self.limit.rate(now), limited=wait is not None or resets_in is not None)
        if resets_in is not None:
            return quota_answer(resets_in, self.wall(), self.settings)
        return None if wait is None else limit_answer(wait, self.wall(), self.settings)

    def reset(self) -> None:
        """Back to the settings of the start and a world without devices; the call log is cleared."""
        with self.lock:
            self._start_afresh()
            self.call_log.clear()
            self.seed(WorldSeed())

    def _start_afresh(self) -> None:
        self.settings = self._initial
        self.world = World()
        self.access = Access(time.monotonic)
        self.faults = Faults()
        self.limit = Limit(self.settings)
        self.quota = Quota(self.settings)
        self.tally = Tally()


def _limits(settings: Settings) -> tuple[object, ...]:
    return settings.rate, settings.rate_changes, settings.burst, settings.limit_window


def _quota(settings: Settings) -> tuple[object, ...]:
    return settings.quota, settings.quota_resets_after
