"""The clients of one process: one a thread and environment, with access tokens that all threads share."""

from __future__ import annotations

import threading

from worker.config.settings import Environment, Settings
from worker.pace.paces import Paces
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Client
from worker.pingone.clock import PingOneClock


class Clients:
    """Thread-safe."""

    def __init__(self, settings: Settings, paces: Paces) -> None:
        self._settings = settings
        self._paces = paces
        self._lock = threading.Lock()
        self._access_tokens: dict[str, tuple[Environment, AccessTokens]] = {}
        self._clocks: dict[str, PingOneClock] = {}
        self._thread = threading.local()

    def of(self, environment: Environment) -> Client:
        """The calling thread's own client: one that threads share would make them wait for each other."""
        mine: dict[str, Client] = self._thread.__dict__.setdefault("clients", {})
        if environment.name not in mine:
            mine[environment.name] = Client(
                environment,
                self.access_tokens(environment),
                self._paces.of(environment),
                clock=self.clock(environment),
                deadline=self._settings.call_deadline,
                outage_hold=self._settings.outage_hold,
            )
        return mine[environment.name]

    def clock(self, environment: Environment) -> PingOneClock:
        """The environment's clock, one object a process: every thread's answers tell the time to all of them."""
        with self._lock:
            return self._clocks.setdefault(environment.name, PingOneClock())

    def access_tokens(self, environment: Environment) -> AccessTokens:
        """The environment's access tokens, one object a process: one renewal, however many threads wait for it."""
        with self._lock:
            if environment.name not in self._access_tokens:
                deadline, longest_hold = self._settings.call_deadline, self._settings.longest_hold
                tokens = AccessTokens(environment, deadline=deadline, longest_hold=longest_hold)
                self._access_tokens[environment.name] = environment, tokens
            return self._access_tokens[environment.name][1]

    def end_pauses(self, license: str) -> None:
        """Ask the token endpoints of a license again at the next call, whatever pause they wanted, since a person has
        lifted its hold."""
        with self._lock:
            known = list(self._access_tokens.values())
        for environment, tokens in known:
            if environment.license == license:
                tokens.end_pause()
