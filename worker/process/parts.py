"""The parts that commands and workers share. Each part is built when it is first needed, so importing the tasks opens
no connection and a command builds only what it needs."""

import threading
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import redis

from models.encrypted import Keyring
from worker.audit import Actor
from worker.batches.imports import Tokens
from worker.batches.undo import Undo
from worker.config.environment import Environment, Environments
from worker.config.settings import Settings
from worker.config.sources import load_environment
from worker.database.engine import Database
from worker.database.schema import read_installation_id
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.license_paces import PaceMemory, Paces
from worker.pingone.clients import Clients
from worker.vault.keys import load_keyring

if TYPE_CHECKING:
    part = cached_property
else:

    class part(cached_property):  # noqa: N801 - a decorator
        """A `cached_property` that is built once, however many threads need it at the same time. Python's own has taken
        no lock since 3.12: two threads of a new worker would each build a dispatcher. The owner's lock `building` is
        reentrant, since parts are built from parts."""

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            if instance is None:
                return self
            with instance.building:
                return super().__get__(instance, owner)


class Parts:
    """Builds the parts of a process. `load` reads an environment by name and raises ConfigError; by default from this
    process' configuration. `database`: an open one; by default it is opened here."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[str], Environment] | None = None,
        database: Database | None = None,
    ) -> None:
        self.settings = settings
        # Held while a part is built.
        self.building = threading.RLock()
        self.environments = Environments(load or partial(load_environment, settings))
        self._opened_database = database

    @part
    def database(self) -> Database:
        settings = self.settings
        return self._opened_database or Database(settings.database, connections=settings.database_connections)

    @part
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.settings.redis,
            socket_timeout=5,
            socket_connect_timeout=2,
            health_check_interval=25,
            # If Redis is out of reach, fail at once; the client's own retries would take seconds.
            retry=None,
        )

    @part
    def installation_id(self) -> str:
        return read_installation_id(self.database)

    @part
    def keyring(self) -> Keyring:
        return load_keyring(self.settings)

    @part
    def pace_memory(self) -> PaceMemory:
        return PaceMemory(self.database)

    @part
    def paces(self) -> Paces:
        def end_pauses(license: str) -> None:
            # Clients are built from paces, so they must not be looked up before this is called.
            self.clients.end_pauses(license)

        return Paces(
            self.redis,
            self.pace_memory,
            self.settings,
            installation=self.installation_id,
            on_alone=self.handle_failing_alone,
            on_lifted=end_pauses,
        )

    @part
    def clients(self) -> Clients:
        return Clients(self.settings, self.paces, self.environments.reread)

    @part
    def tokens(self) -> Tokens:
        return Tokens(self.database, self.keyring, self.clients, self.wait, self.settings.tuning)

    def wait(self, seconds: float) -> None:
        """Wait for this many seconds, or until this process stops."""
        time.sleep(seconds)

    def handle_failing_alone(self, why: str) -> None:
        """Called when this process could not reach PingOne while another could. A command keeps trying."""

    def undo(self, environment: Environment, actor: Actor, on_progress: OnProgress = tell_nobody) -> Undo:
        """Make the undo for batches of this environment, commanded by this actor."""
        return Undo(
            self.database,
            self.keyring,
            self.clients,
            environment,
            self.settings,
            actor,
            self.tokens,
            self.wait,
            on_progress,
        )
