"""One watched simulator: the product's, with a call log, faults, readings and further limits."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from support.simulator.assertions import WatchedAccessTokens
from support.simulator.call_log import CallLog
from support.simulator.faults import Faults
from support.simulator.limits import ChangingLimit, Quota, Tally, quota_answer
from support.simulator.settings import WatchedSettings
from worker.simulator.calls import Answer, Call, Group
from worker.simulator.simulation import Simulation
from worker.simulator.world import WorldSeed


class WatchedSeed(WorldSeed):
    """A seed that may bring the client's public keys, for PRIVATE_KEY_JWT."""

    client_jwks: dict[str, Any] | None = None


class WatchedSimulation(Simulation):
    """The state that all calls share. `job_reads`: how often the end of each job was read."""

    settings: WatchedSettings

    def __init__(self, settings: WatchedSettings | None = None, call_log: CallLog | None = None) -> None:
        self.call_log = call_log or CallLog(salt=secrets.token_hex(16))
        self._initial = settings or WatchedSettings()
        super().__init__(self._initial)

    def begin(self) -> None:
        """Begin anew, with nothing counted and no fault ordered."""
        self.faults = Faults()
        self.quota = Quota(self.settings)
        self.tally = Tally()
        self.job_reads = Counter[str]()
        super().begin()

    def make_access(self) -> WatchedAccessTokens:
        return WatchedAccessTokens(lambda: self.settings.client_auth)

    def make_limits(self) -> Mapping[Group, ChangingLimit]:
        return {group: ChangingLimit(self.settings, group) for group in get_args(Group)}

    def unix_time(self) -> float:
        """The time of the service's own clock, which `clock_skew` sets ahead of this machine's."""
        return time.time() + self.settings.clock_skew

    def seed(self, seed: WorldSeed) -> None:
        """Add what the seed has, the client's public keys too."""
        super().seed(seed)
        if isinstance(seed, WatchedSeed) and seed.client_jwks is not None:
            self.access.keys[seed.client_id] = seed.client_jwks

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings by name, from the next call on. Raises ValidationError."""
        with self.lock:
            super().change(changes)
            if not changes.keys().isdisjoint({"rate_changes", "limit_window"}):
                self.limits = self.make_limits()
            if not changes.keys().isdisjoint({"quota", "quota_resets_after"}):
                self.quota = Quota(self.settings)

    def admit(self, call: Call, now: float) -> Answer | None:
        """Count a request against the limit of its group; those for devices against the quota, and in the tally,
        too."""
        if call.operation == "access_token":
            return None
        with self.lock:
            refused = super().admit(call, now)
            if refused is not None and self.settings.retry_after != "seconds":
                asked = self.settings.retry_after
                refused = replace(refused, headers={} if asked == "none" else {"retry-after": str(asked)})
            if call.group == "mfa":
                if refused is None and (resets_in := self.quota.take(now)) is not None:
                    refused = quota_answer(resets_in, self.unix_time(), self.settings)
                self.tally.count(now, self.limits["mfa"].rate, limited=refused is not None)
        return refused

    def reset(self) -> None:
        """Restore the settings of the start and a world without devices, and clear the call log."""
        with self.lock:
            self.settings = self._initial
            self.call_log.clear()
            self.begin()
