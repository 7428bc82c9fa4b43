"""One running simulator: its world, settings, limits and faults, and the log of calls so far."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from worker.simulator.access import AccessTokens
from worker.simulator.answers import Answer
from worker.simulator.call_log import CallLog
from worker.simulator.deleted import DeletedDevices
from worker.simulator.faults import Faults
from worker.simulator.jobs import Jobs
from worker.simulator.limits import Limit, Quota, limit_answer, quota_answer
from worker.simulator.operation_names import Group, OtherGroup
from worker.simulator.seeding import WorldSeed, add_to_world
from worker.simulator.settings import Settings
from worker.simulator.tally import Tally
from worker.simulator.world import World


class Simulation:
    """The state that all calls share. Its methods may be called from any thread; a call holds `lock` while it does its
    operation. `notifications`: how often PingOne told each user of a new device, by the user's id."""

    def __init__(self, settings: Settings | None = None, call_log: CallLog | None = None) -> None:
        self.lock = threading.RLock()
        self.call_log = call_log or CallLog(salt=secrets.token_hex(16))
        self._initial = settings or Settings()
        self.settings: Settings
        self._set_up()
        self.seed(WorldSeed())

    def unix_time(self) -> float:
        """The time of the simulated service's own clock, which `clock_skew` sets ahead of this machine's."""
        return time.time() + self.settings.clock_skew

    def seed(self, seed: WorldSeed) -> None:
        """Add the seed's client, users, tokens and devices, and change the settings that it names. Raises
        ValidationError."""
        with self.lock:
            if seed.settings:
                self.change(seed.settings)
            self.access.clients[seed.client_id] = seed.client_secret
            if seed.client_jwks is not None:
                self.access.keys[seed.client_id] = seed.client_jwks
            add_to_world(self.world, seed, self.unix_time())

    def catch_up(self) -> None:
        """Do what PingOne does by itself when its time has come: delete devices that wait for too long, and run
        jobs. The caller holds the lock."""
        now = self.unix_time()
        self.world.delete_outlived(now, self.settings.waiting_device_life)
        self.jobs.run_due(now, self.world, self.settings)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings by name, from the next call on. Raises ValidationError.

        Limits and quota restart their counts only if one of their own settings changed.
        """
        with self.lock:
            former, self.settings = self.settings, self.settings.with_changes(changes)
            if _limit_settings(former) != _limit_settings(self.settings):
                self._set_limits()
            if _quota_settings(former) != _quota_settings(self.settings):
                self.quota = Quota(self.settings)

    def admit(self, now: float, group: Group = "mfa") -> Answer | None:
        """Count one request against the limit of its group: None, or the refusal of one that is over it. Requests for
        devices count against the quota and in the tally, too."""
        if group == "inventory":
            group = self.settings.inventory_counts_as
        if group != "mfa":
            with self.lock:
                wait = self.group_limits[group].take(now)
            return None if wait is None else limit_answer(wait, self.unix_time(), self.settings)
        with self.lock:
            wait = self.limit.take(now)
            resets_in = self.quota.take(now) if wait is None else None
            self.tally.count(now, self.limit.rate(now), limited=wait is not None or resets_in is not None)
        if resets_in is not None:
            return quota_answer(resets_in, self.unix_time(), self.settings)
        return None if wait is None else limit_answer(wait, self.unix_time(), self.settings)

    def reset(self) -> None:
        """Restore the settings of the start and a world without devices, and clear the call log."""
        with self.lock:
            self._set_up()
            self.call_log.clear()
            self.seed(WorldSeed())

    def _set_up(self) -> None:
        self.settings = self._initial
        self.world = World()
        self.deleted = DeletedDevices()
        self.jobs = Jobs()
        self.notifications: Counter[str] = Counter()
        self.access = AccessTokens(time.monotonic)
        self.faults = Faults()
        self._set_limits()
        self.quota = Quota(self.settings)
        self.tally = Tally()

    def _set_limits(self) -> None:
        self.limit = Limit(self.settings)
        groups: tuple[OtherGroup, ...] = get_args(OtherGroup)
        self.group_limits = {group: Limit(self.settings, group) for group in groups}


def _limit_settings(settings: Settings) -> tuple[object, ...]:
    return settings.rate, settings.rate_changes, settings.group_rates, settings.burst, settings.limit_window


def _quota_settings(settings: Settings) -> tuple[object, ...]:
    return settings.quota, settings.quota_resets_after
