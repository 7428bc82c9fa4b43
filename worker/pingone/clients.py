"""The clients of one process: one for each thread, environment and rate group, with access tokens that all threads
share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Client, Deprecations, PingOneClock
from worker.pingone.inventory import InventoryJobs
from worker.pingone.pairing import PairingHabits, Pairings
from worker.pingone.reads import Reads
from worker.pingone.transport import LARGEST_BODY, LARGEST_PAGE

# Seconds for which a call begins tries: an activation goes back to the queue after that, and comes again.
RETRY_FOR = 10.0
# Seconds beyond the longest hold for which a read of another group begins tries: it has no lease that would end, and a
# limit by the minute lets it wait for most of one.
READ_RETRY_FOR = 10.0


class Clients:
    """Thread-safe. `reread` returns an environment with the credentials that are configured now."""

    def __init__(
        self, settings: Settings, paces: Paces, reread: Callable[[Environment], Environment] | None = None
    ) -> None:
        self._settings = settings
        self._paces = paces
        self._reread = reread
        self._lock = threading.Lock()
        self._access_tokens: dict[str, tuple[Environment, AccessTokens]] = {}
        self._clocks: dict[str, PingOneClock] = {}
        self._habits: dict[str, PairingHabits] = {}
        self._deprecations = Deprecations()
        self._thread = threading.local()

    def of(self, environment: Environment, group: RateGroup = RateGroup.MFA) -> Client:
        """The calling thread's own client, at the pace of this rate group: one that threads share would make them wait
        for each other."""
        mine: dict[tuple[str, RateGroup], Client] = self._thread.__dict__.setdefault("clients", {})
        if (environment.name, group) not in mine:
            mine[environment.name, group] = self._make(environment, group)
        return mine[environment.name, group]

    def reads(self, environment: Environment) -> Reads:
        """What the calling thread may ask an environment before a batch begins."""
        return Reads(environment, partial(self.of, environment))

    def jobs(self, environment: Environment) -> InventoryJobs:
        """The calling thread's jobs on the inventory, which import and revoke many tokens at a time."""
        return InventoryJobs(environment, partial(self.of, environment))

    def pairings(self, environment: Environment) -> Pairings:
        """The calling thread's way to pair and unpair. What an environment turned out not to take, no thread tries
        again."""
        status = None if environment.pairing_status == "omit" else environment.pairing_status
        with self._lock:
            habits = self._habits.setdefault(environment.name, PairingHabits())
        return Pairings(environment, partial(self.of, environment), status=status, habits=habits)

    def clock(self, environment: Environment) -> PingOneClock:
        """The environment's clock, one object a process: every thread's answers tell the time to all of them."""
        with self._lock:
            return self._clocks.setdefault(environment.name, PingOneClock())

    def access_tokens(self, environment: Environment) -> AccessTokens:
        """The environment's access tokens, one object a process: one renewal, however many threads wait for it."""
        with self._lock:
            if environment.name not in self._access_tokens:
                deadline, longest_hold = self._settings.tuning.call_deadline, self._settings.tuning.longest_hold
                tokens = AccessTokens(environment, deadline=deadline, longest_hold=longest_hold, reread=self._reread)
                self._access_tokens[environment.name] = environment, tokens
            return self._access_tokens[environment.name][1]

    def _make(self, environment: Environment, group: RateGroup) -> Client:
        settings, is_activating = self._settings, group is RateGroup.MFA
        return Client(
            environment,
            self.access_tokens(environment),
            self._paces.of(environment, group),
            clock=self.clock(environment),
            deprecations=self._deprecations,
            deadline=settings.tuning.call_deadline,
            outage_hold=settings.tuning.outage_hold,
            retry_for=RETRY_FOR if is_activating else settings.tuning.longest_hold + READ_RETRY_FOR,
            largest_body=LARGEST_BODY if is_activating else LARGEST_PAGE,
        )

    def end_pauses(self, license: str) -> None:
        """Ask the token endpoints of a license again at the next call, whatever pause they wanted, since a person has
        lifted its hold."""
        with self._lock:
            known = list(self._access_tokens.values())
        for environment, tokens in known:
            if environment.license == license:
                tokens.end_pause()
