"""The two stacks: that of a fleet, PostgreSQL and Valkey as servers, each worker with a network of its own; and that of
`oathbulk run`, SQLite, its own Valkey, worker and beat, and a second worker beside it. What is broken in both of them,
and how their end is judged."""

import abc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from chaos.links import Link, Network
from support.data.shipments import ACCEPTED, OPTIONS, Records
from support.fleets.real_fleet import BATCH, Fleet, Worked, plain_env
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.processes.command_desk import CommandDesk, Running
from support.processes.program import Program
from support.processes.waiting import is_running, wait_until
from support.servers.postgres import PostgresServer
from support.servers.server import Server
from support.servers.simulator import Simulator
from support.servers.valkey import ValkeyServer

from models.attempt import Outcome
from worker.config.settings import Settings
from worker.database import schema
from worker.database.engine import Database
from worker.embedded.valkey import ValkeyConfig
from worker.fleet import FAILS_ALONE
from worker.simulator.shipment import SEEDS, Box, MadeShipment

# Seconds.
TIMEOUT = 180.0

# Threads of each of the two workers.
THREADS = 4
SETTINGS = {
    "_OATHBULK_TUNING__call_deadline": "2",
    "_OATHBULK_TUNING__send_within": "1",
    "_OATHBULK_TUNING__lease_left_for_post": "3",
    "_OATHBULK_TUNING__lease": "5",
    "_OATHBULK_TUNING__queue_lease": "5",
    "_OATHBULK_TUNING__read_delay": "1",
    "_OATHBULK_TUNING__not_found_delay": "1",
    "_OATHBULK_TUNING__outage_hold": "1",
    "_OATHBULK_TUNING__tick": "0.3",
    "OATHBULK_CONCURRENCY": str(THREADS),
}
# Disturbances may cost a device all the posts that it may have, or a record all its attempts or pairings.
SPENT = frozenset({"budget_spent", "attempts_spent", "pairing_failed"})
# The variables that lead to each server.
LEADS = {
    "pingone": ("PINGONE_API_URL", "PINGONE_TOKEN_URL"),
    "queue": ("OATHBULK_REDIS_URL",),
    "database": ("OATHBULK_DATABASE_URL",),
}
BEAT, RUN = "beat", "run"


class Stack(Worked, abc.ABC):
    """Two workers, beat, a queue, a database, and a simulated PingOne; the batch is loaded, and worked on from `begin`.

    Each part, a worker, beat or a server, has a name. What is killed or stopped stays so until it is started again,
    unless it is a part of the stack to see to that."""

    workers: Sequence[str]
    # The servers that can be killed.
    servers: frozenset[str]
    simulator: Simulator
    budget: int
    patience = TIMEOUT

    def __init__(self) -> None:
        # Ways of each worker's own to the servers that lie behind a network.
        self.links: dict[str, dict[str, Link]] = {}
        self.stack = ExitStack()
        self.network = self.stack.enter_context(Network())
        self.counts: dict[str, Any] = {}

    @abc.abstractmethod
    def begin(self) -> None:
        """Start all that works."""

    @abc.abstractmethod
    def start(self, name: str) -> None:
        """Start a part again."""

    @abc.abstractmethod
    def find_pids(self, name: str) -> list[int]:
        """The processes of a worker, or of beat."""

    @abc.abstractmethod
    def find_queue(self) -> str:
        """The queue's URL."""

    @abc.abstractmethod
    def end_programs(self) -> None:
        """All that works, when there is nothing left to do."""

    def send(self, name: str, number: int) -> None:
        """Send a signal to a part."""
        for pid in self.find_pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, name: str) -> None:
        self.send(name, signal.SIGKILL)

    def stop_worker(self, name: str) -> None:
        pids = self.find_pids(name)
        self.send(name, signal.SIGTERM)
        wait_until(lambda: not any(map(is_running, pids)), f"{name} ends in good order")

    def flush_queue(self) -> None:
        with redis.Redis.from_url(self.find_queue()) as client:
            client.flushall()

    def lost(self) -> int:
        """Attempts so far whose lease ran out."""
        return self.records.attempts(Outcome.LOST)

    def judge(self) -> None:
        """End everything, and fail if a promise was broken or a record ended as it was not made to."""
        self.end_programs()
        tenant, self.counts = self.simulator.tenant(), self.simulator.counts()
        self.simulator.stop()
        deliver_verdict(self.database, self.simulator, tenant, budget=self.budget, excused=SPENT)
        wrong = self.records.wrong_endings(excused=SPENT)
        assert not wrong, f"not as they were made to end: {wrong}"

    def lay_links(self, ports: Mapping[str, int]) -> None:
        """To the servers on these ports of this machine."""
        for server, port in ports.items():
            self.links[server] = {worker: self.network.link(port) for worker in self.workers}

    def lead(self, variables: Mapping[str, str], worker: str) -> dict[str, str]:
        """These of the variables that lead to a server, by the worker's own ways."""
        return {
            name: variables[name].replace(f":{urlsplit(variables[name]).port}/", f":{links[worker].port}/", 1)
            for server, links in self.links.items()
            for name in LEADS[server]
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


class PostgresqlStack(Stack):
    workers = ("first", "second")
    servers = frozenset({"queue", "database"})

    def __init__(
        self, directory: Path, shipment: MadeShipment, settings: Mapping[str, str], simulated: Mapping[str, Any]
    ) -> None:
        super().__init__()
        # It survives kill -9, which takes no power away, without the slowness of real commits.
        postgres = self.stack.enter_context(PostgresServer(durable=False))
        valkey = self.stack.enter_context(ValkeyServer())
        url = self.stack.enter_context(postgres.database())
        migrated = Database(url)
        schema.upgrade(migrated)
        migrated.close()
        self._fleet = self.stack.enter_context(
            Fleet(directory, directory / "home", url, valkey.url, shipment, settings=SETTINGS | settings, **simulated)
        )
        self._servers: Mapping[str, Server] = {"queue": valkey, "database": postgres}
        self._programs: dict[str, Program] = {}
        self.simulator, self.database = self._fleet.simulator, self._fleet.database
        self.records = self._fleet.records
        self.budget = self._fleet.settings.otp_post_budget
        pingone = urlsplit(self.simulator.url).port or 0
        self.lay_links({"pingone": pingone, "queue": valkey.port, "database": postgres.port})

    def begin(self) -> None:
        for name in (*self.workers, BEAT):
            self.start(name)

    def start(self, name: str) -> None:
        if name in self._servers:
            self._servers[name].start()
            # What is left of the connections from before.
            self.database.close()
        elif name == BEAT:
            self._programs[name] = self._fleet.beat(level="WARNING")
        else:
            ways = self.lead(self._fleet.variables, name)
            self._programs[name] = self._fleet.worker(name, level="WARNING", **ways)

    def kill(self, name: str) -> None:
        (self._servers | self._programs)[name].kill()

    def stop_worker(self, name: str) -> None:
        super().stop_worker(name)
        # One that has not yet come as far as to listen to signals has nothing in hand either.
        code = self._programs[name].wait()
        assert code in (0, FAILS_ALONE, -signal.SIGTERM), (
            f"{name} ended with {code}\n{self._programs[name].read_log()[-3000:]}"
        )

    def find_pids(self, name: str) -> list[int]:
        return [self._programs[name].pid]

    def find_queue(self) -> str:
        return self._fleet.variables["OATHBULK_REDIS_URL"]

    def end_programs(self) -> None:
        for program in self._programs.values():
            program.kill()

    def tend(self) -> None:
        """Start a worker again that ended since it failed alone, as a supervisor does. What else is down stays down
        until it is started."""
        for name in self.workers:
            if self._programs[name].exit_code == FAILS_ALONE:
                self.start(name)

    def testimony(self) -> str:
        return self._fleet.testimony()


OWN, BESIDE = "own", "beside"
# What run starts, by the name of its program.
PROGRAMS = {OWN: "worker", BEAT: "beat", "queue": "valkey-server"}
CELERY = (sys.executable, "-P", "-m", "celery", "-A", "worker")


class SingleMachine(Stack):
    """What run starts it starts again by itself. Run itself is started again by whoever runs it."""

    workers = (OWN, BESIDE)
    servers = frozenset({"queue"})

    def __init__(
        self, directory: Path, shipment: MadeShipment, settings: Mapping[str, str], simulated: Mapping[str, Any]
    ) -> None:
        super().__init__()
        outside = directory / "outside"
        outside.mkdir()
        self.simulator = self.stack.enter_context(Simulator(outside, shipment, plain_env(), **simulated))
        self.lay_links({"pingone": urlsplit(self.simulator.url).port or 0})
        variables = self.simulator.variables
        self._desk = self.stack.enter_context(
            CommandDesk(directory / "desk", SETTINGS, settings, variables, self.lead(variables, OWN))
        )
        self._words = write_shipment(shipment, self._desk.folder)
        loaded = self._desk.oathbulk("load", *self._words, "--offline")
        assert loaded.code == 0, loaded.stderr
        self.database = Database(f"sqlite:///{self._desk.home / 'oathbulk.db'}")
        self.stack.callback(self.database.close)
        self.records = Records(self.database, shipment)
        watch_moves(self.database)
        self.budget = Settings().otp_post_budget
        self._running: dict[str, Running] = {}

    def begin(self) -> None:
        self.start(RUN)
        self.start(BESIDE)

    def start(self, name: str) -> None:
        if name == RUN:
            self._running[RUN] = self._desk.start("run", *self._words, "--json")
            name = OWN
        if name == BESIDE:
            variables = self.lead(self.simulator.variables, BESIDE) | {"OATHBULK_REDIS_URL": self.find_queue()}
            arguments = ("worker", "-n", f"{BESIDE}@%h", "-l", "WARNING")
            self._running[BESIDE] = self._desk.start_program(*CELERY, *arguments, **variables)
        else:
            is_there = lambda: self.find_pids(name) or not self._running[RUN].is_alive  # noqa: E731
            wait_until(is_there, f"{name} is there, or run is not")

    def find_pids(self, name: str) -> list[int]:
        """The worker beside run is Celery's command."""
        if name in self._running:
            return [self._running[name].pid]
        return sorted({*self._desk.processes(PROGRAMS[name])} - {*self._desk.processes("celery")})

    def find_queue(self) -> str:
        config = ValkeyConfig.read(self._desk.home / "valkey" / "valkey.conf")
        assert config is not None
        return config.url

    def tend(self) -> None:
        """A run that gave a part up is started again, as a person would, or an init system; and the worker beside it,
        if it ended since it failed alone, as a supervisor does."""
        run, beside = self._running[RUN], self._running[BESIDE]
        if not run.is_alive and not self.is_finished():
            self.start(RUN)
        if not beside.is_alive and beside.wait().code == FAILS_ALONE:
            self.start(BESIDE)

    def end_programs(self) -> None:
        result = self._running[RUN].wait()
        assert result.code in (0, 1), result
        self._desk.kill(*self._desk.processes())

    def testimony(self) -> str:
        logs = [*(self._desk.home / "logs").glob("*.log"), self._desk.home / "valkey" / "valkey.log"]
        said = [f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists()]
        return "\n".join([*said, *(f"--- {name}\n{each.stderr[-3000:]}" for name, each in self._running.items())])


def write_shipment(shipment: MadeShipment, folder: Path) -> list[str]:
    """Write the shipment's files into the folder: what `oathbulk load` is told of them."""
    if isinstance(shipment, Box):
        shipment.write(folder)
        return [SEEDS, "--batch", BATCH, *OPTIONS, *(f"--accept={name}" for name in ACCEPTED)]
    shipment.write_pairs(folder / f"{BATCH}.csv")
    return [f"{BATCH}.csv"]
