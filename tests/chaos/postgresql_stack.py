"""The stack of a fleet: PostgreSQL and Valkey as servers, each worker with a network of its own."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.fleets.real_fleet import Fleet
from support.processes.program import Program
from support.servers.postgres import PostgresServer
from support.servers.server import Server
from support.servers.valkey import ValkeyServer

from chaos.stack import SETTINGS, Stack
from worker.database import schema
from worker.database.engine import Database
from worker.fleet import FAILS_ALONE
from worker.simulator.shipment import MadeShipment


class PostgresqlStack(Stack):
    links_to = frozenset({"pingone", "queue", "database"})
    servers = frozenset({"queue", "database"})
    workers = ("first", "second")

    def __init__(
        self, directory: Path, shipment: MadeShipment, settings: Mapping[str, str], simulated: Mapping[str, Any]
    ) -> None:
        super().__init__(directory, shipment)
        # It survives kill -9, which takes no power away, without the slowness of real commits.
        postgres = self.stack.enter_context(PostgresServer(durable=False))
        valkey = self.stack.enter_context(ValkeyServer())
        url = self.stack.enter_context(postgres.database())
        migrated = Database(url)
        schema.upgrade(migrated)
        migrated.close()
        home = directory / "home"
        home.mkdir(mode=0o700)
        self._fleet = self.stack.enter_context(
            Fleet(directory, home, url, valkey.url, shipment, settings=SETTINGS | settings, **simulated)
        )
        self._valkey = valkey
        self._servers: Mapping[str, Server] = {"queue": valkey, "database": postgres}
        self._programs: dict[str, Program] = {}
        self.simulator, self.database = self._fleet.simulator, self._fleet.database
        self.budget = self._fleet.settings.otp_post_budget
        ports = {"pingone": urlsplit(self.simulator.url).port or 0, "queue": valkey.port, "database": postgres.port}
        for worker in self.workers:
            self.lay_links(worker, ports)

    def start(self) -> None:
        for worker in self.workers:
            self.start_worker(worker)
        self.start_beat()

    def start_worker(self, name: str) -> None:
        self._programs[name] = self._fleet.worker(name, level="WARNING", **self._variables(name))

    def kill_worker(self, name: str) -> None:
        self._programs[name].kill()

    def stop_worker(self, name: str) -> None:
        code = self._programs[name].stop()
        # One that has not yet come as far as to listen to signals has nothing in hand either.
        assert code in (0, FAILS_ALONE, -signal.SIGTERM), (
            f"{name} ended with {code}\n{self._programs[name].read_log()[-3000:]}"
        )

    def freeze_worker(self, name: str) -> None:
        self._programs[name].freeze()

    def thaw_worker(self, name: str) -> None:
        self._programs[name].thaw()

    def start_beat(self) -> None:
        self._programs["beat"] = self._fleet.beat(level="WARNING")

    def kill_beat(self) -> None:
        self._programs["beat"].kill()

    def flush_queue(self) -> None:
        self._valkey.flush()

    def kill_server(self, name: str) -> None:
        self._servers[name].kill()

    def start_server(self, name: str) -> None:
        self._servers[name].start()
        if name == "database":
            # What is left of the connections from before.
            self.database.close()

    def end_programs(self) -> None:
        for program in self._programs.values():
            program.kill()

    def tend(self) -> None:
        """Start a worker again that ended since it failed alone, as a supervisor does. What else is down stays down
        until it is started."""
        for name in self.workers:
            if self._programs[name].exit_code == FAILS_ALONE:
                self.start_worker(name)

    def testimony(self) -> str:
        return self._fleet.testimony()

    def _variables(self, worker: str) -> dict[str, str]:
        """The worker's settings, with its own ways to the servers."""
        leads = {"pingone": ("PINGONE_API_URL", "PINGONE_TOKEN_URL"), "queue": ("OATHBULK_REDIS_URL",)}
        leads["database"] = ("OATHBULK_DATABASE_URL",)
        return {
            name: through(self._fleet.variables[name], self.links[server][worker].port)
            for server, names in leads.items()
            for name in names
        }


def through(url: str, port: int) -> str:
    """The URL with another port."""
    return url.replace(f":{urlsplit(url).port}/", f":{port}/", 1)
