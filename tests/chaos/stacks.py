"""The two stacks: that of a fleet, PostgreSQL and Valkey as servers, each worker with a network of its own; and that of
`oathbulk run`, SQLite, its own Valkey, worker and beat, and a second worker beside it."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaos.stack import BATCH, SETTINGS, TIMEOUT, Stack
from support.data.shipments import ACCEPTED, OPTIONS
from support.fleets.real_fleet import Fleet, plain_env
from support.processes.command_desk import CommandDesk, Running
from support.processes.program import Program
from support.processes.waiting import is_running, wait_until
from support.servers.postgres import PostgresServer
from support.servers.server import Server
from support.servers.simulator import Simulator
from support.servers.valkey import ValkeyServer

from worker.config.settings import Settings
from worker.database import schema
from worker.database.engine import Database
from worker.embedded.valkey import ValkeyConfig, connect
from worker.fleet import FAILS_ALONE
from worker.simulator.shipment import SEEDS, Box, MadeShipment

OWN, BESIDE = "own", "beside"
CELERY = (sys.executable, "-P", "-m", "celery", "-A", "worker")


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


class SingleMachine(Stack):
    """What run starts it starts again by itself. Run itself is started again by whoever runs it."""

    links_to = frozenset({"pingone"})
    servers = frozenset({"queue"})
    workers = (OWN, BESIDE)

    def __init__(
        self,
        directory: Path,
        shipment: MadeShipment,
        settings: Mapping[str, str],
        simulated: Mapping[str, Any],
    ) -> None:
        super().__init__(directory, shipment)
        outside = directory / "outside"
        outside.mkdir()
        self.simulator = self.stack.enter_context(Simulator(outside, shipment, plain_env(), **simulated))
        for worker in self.workers:
            self.lay_links(worker, {"pingone": urlsplit(self.simulator.url).port or 0})
        self._desk = self.stack.enter_context(
            CommandDesk(directory / "desk", SETTINGS, settings, self.simulator.variables, self._ways(OWN))
        )
        self._words = write_shipment(shipment, self._desk.folder)
        loaded = self._desk.oathbulk("load", *self._words, "--offline")
        assert loaded.code == 0, loaded.stderr
        self.watch(Database(f"sqlite:///{self._desk.home / 'oathbulk.db'}"))
        self.budget = Settings().otp_post_budget
        self._run: Running
        self._beside: Running

    def start(self) -> None:
        self.start_run()
        self.start_worker(BESIDE)

    def start_run(self) -> None:
        self._run = self._desk.start("run", *self._words, "--json")
        self._wait_for_own("worker")

    def kill_run(self) -> None:
        self._run.kill()

    def tend(self) -> None:
        """A run that gave a part up is started again, as a person would, or an init system; and the worker beside it,
        if it ended since it failed alone, as a supervisor does."""
        if not self._run.is_alive and not self.is_finished():
            self.start_run()
        if not self._beside.is_alive and self._beside.wait().code == FAILS_ALONE:
            self.start_worker(BESIDE)

    def start_worker(self, name: str) -> None:
        if name == OWN:
            self._wait_for_own("worker")
            return
        variables = self._ways(BESIDE) | {"OATHBULK_REDIS_URL": self._valkey().url}
        arguments = ("worker", "-n", f"{BESIDE}@%h", "-l", "WARNING")
        self._beside = self._desk.start_program(*CELERY, *arguments, **variables)

    def kill_worker(self, name: str) -> None:
        self._desk.kill(*self._pids(name))

    def stop_worker(self, name: str) -> None:
        pids = self._pids(name)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(map(is_running, pids)), TIMEOUT, f"{name} ends in good order")

    def freeze_worker(self, name: str) -> None:
        for pid in self._pids(name):
            os.kill(pid, signal.SIGSTOP)

    def thaw_worker(self, name: str) -> None:
        for pid in self._pids(name):
            os.kill(pid, signal.SIGCONT)

    def start_beat(self) -> None:
        self._wait_for_own("beat")

    def kill_beat(self) -> None:
        self._desk.kill(*self._own("beat"))

    def flush_queue(self) -> None:
        with connect(self._valkey()) as client:
            client.flushall()

    def kill_server(self, name: str) -> None:
        self._desk.kill(*self._own("valkey-server"))

    def start_server(self, name: str) -> None:
        self._wait_for_own("valkey-server")

    def end_programs(self) -> None:
        result = self._run.wait()
        assert result.code in (0, 1), result
        self._desk.kill(*self._desk.processes())

    def testimony(self) -> str:
        logs = [*(self._desk.home / "logs").glob("*.log"), self._desk.home / "valkey" / "valkey.log"]
        said = [f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists()]
        return "\n".join([*said, f"--- run\n{self._run.stderr[-2000:]}", f"--- beside\n{self._beside.stderr[-3000:]}"])

    def _wait_for_own(self, part: str) -> None:
        """Until run has started it."""
        wait_until(lambda: self._own(part) or not self._run.is_alive, TIMEOUT, f"{part} is there, or run is not")

    def _own(self, part: str) -> list[int]:
        """What run started; the worker beside it is Celery's command."""
        return sorted({*self._desk.processes(part)} - {*self._desk.processes("celery")})

    def _pids(self, worker: str) -> list[int]:
        return self._own("worker") if worker == OWN else [self._beside.pid]

    def _valkey(self) -> ValkeyConfig:
        config = ValkeyConfig.read(self._desk.home / "valkey" / "valkey.conf")
        assert config is not None
        return config

    def _ways(self, worker: str) -> dict[str, str]:
        port = self.links["pingone"][worker].port
        names = ("PINGONE_API_URL", "PINGONE_TOKEN_URL")
        return {name: through(self.simulator.variables[name], port) for name in names}


def write_shipment(shipment: MadeShipment, folder: Path) -> list[str]:
    """Write the shipment's files into the folder: what `oathbulk load` is told of them."""
    if isinstance(shipment, Box):
        shipment.write(folder)
        return [SEEDS, "--batch", BATCH, *OPTIONS, *(f"--accept={name}" for name in ACCEPTED)]
    shipment.write_pairs(folder / f"{BATCH}.csv")
    return [f"{BATCH}.csv"]
