"""The parts that speak with PingOne, put together: what a process' threads share, and the client that each has of its
own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, partial

import redis

from worker.config.settings import Environment, Settings
from worker.config.sources import load_environment
from worker.database.engine import Database
from worker.pace.memory import Paces
from worker.pace.slots import Pace
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Client


class Clients:
    """Built when first asked for."""

    def __init__(self, settings: Settings, load: Callable[[str], Environment] | None = None) -> None:
        self.settings = settings
        self._load = load or partial(load_environment, settings)
        self._lock = threading.RLock()
        self._environments: dict[str, Environment] = {}
        self._paces: dict[str, Pace] = {}
        self._access_tokens: dict[str, AccessTokens] = {}
        self._thread = threading.local()

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.database, connections=self.settings.database_connections)

    @cached_property
    def paces(self) -> Paces:
        return Paces(self.database)

    @cached_property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.settings.redis,
            socket_timeout=5,
            socket_connect_timeout=2,
            health_check_interval=25,
            # Out of reach counts as a far slot at once; the client's own tries would take seconds first.
            retry=None,
        )

    def environment(self, name: str) -> Environment:
        """Read once a process. Raises ConfigError."""
        with self._lock:
            if name not in self._environments:
                self._environments[name] = self._load(name)
            return self._environments[name]

    def pace(self, environment: Environment) -> Pace:
        """One a license and process: what one thread learns of a hold, all know."""
        with self._lock:
            if environment.license not in self._paces:
                self._paces[environment.license] = Pace(
                    self.redis,
                    environment.license,
                    environment.rate,
                    highest=environment.rate_max,
                    recall=partial(self.paces.recall_search, environment.license),
                    furthest=self.settings.furthest_slot,
                    threads=self.settings.concurrency,
                    longest_hold=self.settings.longest_hold,
                    on_alone=self.failed_alone,
                    on_lifted=partial(self._ask_again, environment.license),
                )
            return self._paces[environment.license]

    def failed_alone(self, why: str) -> None:
        """This process cannot reach PingOne, and others can. For a single command that changes nothing."""

    def known_paces(self) -> list[Pace]:
        """Those of the licenses that this process works for."""
        with self._lock:
            return list(self._paces.values())

    def known_environments(self) -> list[Environment]:
        """Those that this process has worked for."""
        with self._lock:
            return list(self._environments.values())

    def client(self, name: str) -> Client:
        """This thread's own: one shared by threads would make them wait for each other."""
        mine: dict[str, Client] = self._thread.__dict__.setdefault("clients", {})
        if name not in mine:
            environment = self.environment(name)
            mine[name] = Client(
                environment,
                self.access_tokens(environment),
                self.pace(environment),
                deadline=self.settings.call_deadline,
                outage_hold=self.settings.outage_hold,
            )
        return mine[name]

    def access_tokens(self, environment: Environment) -> AccessTokens:
        """One a process: one renewal, however many threads wait."""
        with self._lock:
            if environment.name not in self._access_tokens:
                self._access_tokens[environment.name] = AccessTokens(
                    environment, deadline=self.settings.call_deadline, longest_hold=self.settings.longest_hold
                )
            return self._access_tokens[environment.name]

    def _ask_again(self, license: str) -> None:
        """A person has lifted the license's hold: its token endpoints are asked at once, too."""
        with self._lock:
            tokens = [
                tokens for name, tokens in self._access_tokens.items() if self._environments[name].license == license
            ]
        for each in tokens:
            each.end_pause()
