"""The parts of a worker process, put together: what its threads share, and what each thread has of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, partial

import redis
from celery import Celery, Task

from models.reason import PauseReason
from worker import breaker
from worker.activation import Activation
from worker.audit import SCHEDULE
from worker.batches import Batches
from worker.config import ConfigError, Environment, Settings, load_environment
from worker.database import Database
from worker.decisions import DeadLetter, Decision, Pause, Retry
from worker.dispatch import Dispatcher
from worker.keyring import load_keyring
from worker.leases.claim import Claim
from worker.leases.queue import Queue
from worker.leases.worker import Leases
from worker.paces import Paces
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Client
from worker.pingone.pacing import Pace
from worker.publishing import CeleryBroker
from worker.quota import Quota
from worker.tending import Tending


class Parts:
    """Built when first asked for, so that importing the tasks opens no connection."""

    def __init__(self, settings: Settings, load: Callable[[str], Environment] | None = None) -> None:
        self.settings = settings
        self._load = load or partial(load_environment, settings)
        self._lock = threading.RLock()
        self._environments: dict[str, Environment] = {}
        self._paces: dict[str, Pace] = {}
        self._access_tokens: dict[str, AccessTokens] = {}
        self._thread = threading.local()
        # Set when the worker is asked to end: what is in hand is finished, and nothing else begun.
        self.stopping = threading.Event()

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.database)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.database, lease=self.settings.lease, max_attempts=self.settings.max_attempts)

    @cached_property
    def queue(self) -> Queue:
        settings = self.settings
        return Queue(
            self.database,
            send_within=settings.send_within,
            call_deadline=settings.call_deadline,
            read_delay=settings.read_delay,
        )

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.database, SCHEDULE)

    @cached_property
    def paces(self) -> Paces:
        return Paces(self.database)

    @cached_property
    def tending(self) -> Tending:
        return Tending(self.database, self.thresholds)

    @property
    def thresholds(self) -> breaker.Thresholds:
        settings = self.settings
        return breaker.Thresholds(
            forbidden=settings.breaker_forbidden,
            refused=settings.breaker_refused,
            refused_share=settings.breaker_refused_share,
            unanswered=settings.breaker_unanswered,
        )

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
                    begin=partial(self.paces.begin, environment.license),
                    furthest=self.settings.furthest_slot,
                    threads=self.settings.concurrency,
                )
            return self._paces[environment.license]

    def known_paces(self) -> list[Pace]:
        """Those of the licenses that this process works for."""
        with self._lock:
            return list(self._paces.values())

    def activation(self, name: str) -> Activation:
        """This thread's own, since its HTTP client is."""
        mine: dict[str, Activation] = self._thread.__dict__.setdefault("activations", {})
        if name not in mine:
            mine[name] = self._activation(self.environment(name))
        return mine[name]

    def dispatcher(self, app: Celery, task: Task, queue: str) -> Dispatcher:
        return Dispatcher(
            self.database,
            self.queue,
            CeleryBroker(app, task, queue),
            self.settings,
            environment=self.environment,
            pace=self.pace,
            pause=self.tending.pause,
            tend=self.tending.tend,
            keep=self.paces.keep,
        )

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
                longest_hold=self.settings.longest_hold,
            )
        return mine[name]

    def access_tokens(self, environment: Environment) -> AccessTokens:
        """One a process: one renewal, however many threads wait."""
        with self._lock:
            if environment.name not in self._access_tokens:
                tokens = AccessTokens(environment, deadline=self.settings.call_deadline)
                self._access_tokens[environment.name] = tokens
            return self._access_tokens[environment.name]

    def _activation(self, environment: Environment) -> Activation:
        return Activation(
            environment,
            self.settings,
            self.leases,
            self.client(environment.name),
            self.pace(environment),
            load_keyring(self.settings),
            partial(self._settled, environment.license),
            self.stopping.is_set,
            self._misconfigured,
        )

    def _license(self, name: str) -> str | None:
        """Of an environment; None where it is not configured here."""
        try:
            return self.environment(name).license
        except ConfigError:
            return None

    def _misconfigured(self, batch_id: int) -> None:
        self.tending.pause(batch_id, PauseReason.ENVIRONMENT)

    def _settled(self, license: str, claim: Claim, decision: Decision) -> None:
        """What a settled record may mean for its batch; and a quota, for all batches of the license."""
        match decision:
            case Pause(quota=Quota() as spent):
                self.tending.pause_for_quota(spent, lambda name: self._license(name) == license)
            case Pause(reason=reason):
                self.tending.pause(claim.batch_id, reason)
            case DeadLetter(reason=why) if why in breaker.WATCHED_REASONS:
                self.tending.judge_settled(claim.batch_id)
            case Retry(why=failure) if failure in breaker.WATCHED_FAILURES:
                self.tending.judge_attempts(claim.batch_id)
