"""One running simulator: its settings, and the state that all calls share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, get_args

from worker.simulator.admission import AccessTokens, TokenBucket, limit_answer
from worker.simulator.calls import Answer, Call, Group
from worker.simulator.seeding import WorldSeed, add_to_world
from worker.simulator.settings import Settings
from worker.simulator.world import World


class Simulation:
    """The state that all calls share. Its methods may be called from any thread; a call holds `lock` while it does its
    operation."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.lock = threading.RLock()
        self.settings = settings or Settings()
        self.begin()

    def begin(self) -> None:
        """Begin with a world without users, tokens and devices, and with the client that seeds have by default."""
        self.world = World()
        self.access = self.make_access()
        self.limits = self.make_limits()
        self.seed(WorldSeed())

    def unix_time(self) -> float:
        """The time of the simulated service's own clock."""
        return time.time()

    def make_access(self) -> AccessTokens:
        """Make the token endpoint, which knows no client yet."""
        return AccessTokens()

    def make_limits(self) -> Mapping[Group, TokenBucket]:
        """Make the rate limits of all groups."""
        groups: tuple[Group, ...] = get_args(Group)
        return {group: TokenBucket(self.settings, group) for group in groups}

    def seed(self, seed: WorldSeed) -> None:
        """Add the seed's client, users, tokens and devices, and change the settings that it names. Raises
        ValidationError."""
        with self.lock:
            if seed.settings:
                self.change(seed.settings)
            self.access.clients[seed.client_id] = seed.client_secret
            add_to_world(self.world, seed, self.unix_time())

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings by name, from the next call on. Raises ValidationError."""
        with self.lock:
            self.settings = self.settings.with_changes(changes)
            # A limit that did not change goes on counting.
            if not changes.keys().isdisjoint({"rate", "group_rates", "burst"}):
                self.limits = self.make_limits()

    def admit(self, call: Call, now: float) -> Answer | None:
        """Count a request, at so many monotonic seconds, against the limit of its group: None, or the refusal of one
        that is over it. Requests for access tokens do not count."""
        if call.operation == "access_token":
            return None
        with self.lock:
            wait = self.limits[call.group].take(now)
        return None if wait is None else limit_answer(wait)
