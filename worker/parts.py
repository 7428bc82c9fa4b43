"""The parts of a worker process, put together: what its threads share, and what each thread has of its own."""

from __future__ import annotations

import threading
from functools import cached_property

import redis
from celery import Celery, Task

from models.reason import PauseReason
from worker import breaker
from worker.activation import Activation
from worker.batches import Batches
from worker.config import Environment, Settings, load_environment
from worker.database import Database
from worker.decisions import DeadLetter, Decision, Pause
from worker.dispatch import Dispatcher
from worker.keyring import load_keyring
from worker.leases.claim import Claim
from worker.leases.queue import Queue
from worker.leases.worker import Leases
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Client
from worker.pingone.pacing import Pace
from worker.publishing import CeleryBroker

# A thread may wait this long for its slot where the pace is so low that the threads of one process need it.
LONGEST_SLOT_WAIT = 10.0


class Parts:
    """Built when first asked for, so that importing the tasks opens no connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
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
    def batches(self) -> Batches:
        return Batches(self.database)

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
                self._environments[name] = load_environment(self.settings, name)
            return self._environments[name]

    def pace(self, environment: Environment) -> Pace:
        """One a license and process: what one thread learns of a hold, all know."""
        with self._lock:
            if environment.license not in self._paces:
                needed = 2 * self.settings.concurrency / environment.rate
                furthest = max(self.settings.furthest_slot, min(needed, LONGEST_SLOT_WAIT))
                pace = Pace(self.redis, environment.license, environment.rate, furthest=furthest)
                self._paces[environment.license] = pace
            return self._paces[environment.license]

    def activation(self, name: str) -> Activation:
        """This thread's own, since its HTTP client is."""
        mine: dict[str, Activation] = self._thread.__dict__
        if name not in mine:
            mine[name] = self._activation(self.environment(name))
        return mine[name]

    def dispatcher(self, app: Celery, task: Task, queue: str) -> Dispatcher:
        settings = self.settings
        return Dispatcher(
            self.database,
            Queue(
                self.database,
                send_within=settings.send_within,
                call_deadline=settings.call_deadline,
                read_delay=settings.read_delay,
            ),
            CeleryBroker(app, task, queue),
            settings,
            environment=self.environment,
            pace=self.pace,
            pause=self.batches.pause_by_itself,
        )

    def _activation(self, environment: Environment) -> Activation:
        settings = self.settings
        pace = self.pace(environment)
        with self._lock:
            access_tokens = self._access_tokens.setdefault(
                environment.name, AccessTokens(environment, deadline=settings.call_deadline)
            )
        client = Client(
            environment,
            access_tokens,
            pace,
            deadline=settings.call_deadline,
            outage_hold=settings.outage_hold,
        )
        keyring = load_keyring(settings)
        return Activation(
            environment,
            settings,
            self.leases,
            client,
            pace,
            keyring,
            self._settled,
            self.stopping.is_set,
            self._misconfigured,
        )

    def _misconfigured(self, batch_id: int) -> None:
        self.batches.pause_by_itself(batch_id, PauseReason.ENVIRONMENT)

    def _settled(self, claim: Claim, decision: Decision) -> None:
        """What a settled record may mean for its batch."""
        if isinstance(decision, Pause):
            self.batches.pause_by_itself(claim.batch_id, decision.reason)
        elif isinstance(decision, DeadLetter) and decision.reason in breaker.WATCHED:
            self.batches.judge(claim.batch_id)
