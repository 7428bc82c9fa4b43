"""The stack of `oathbulk run`: SQLite, its own Valkey, worker and beat; and a second worker beside it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.data.shipments import ACCEPTED, OPTIONS
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import CommandDesk, Running
from support.processes.waiting import is_running, wait_until
from support.servers.simulator import Simulator

from chaos.postgresql_stack import through
from chaos.stack import BATCH, SETTINGS, TIMEOUT, Stack
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.embedded.valkey import ValkeyConfig, connect
from worker.fleet import FAILS_ALONE
from worker.simulator.shipment import SEEDS, Box, MadeShipment

OWN, BESIDE = "own", "beside"
CELERY = (sys.executable, "-P", "-m", "celery", "-A", "worker")


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
        home: Path | None = None,
    ) -> None:
        super().__init__(directory, shipment)
        outside = directory / "outside"
        outside.mkdir()
        self.simulator = self.stack.enter_context(Simulator(outside, shipment, plain_env(), **simulated))
        for worker in self.workers:
            self.lay_links(worker, {"pingone": urlsplit(self.simulator.url).port or 0})
        mine = {"OATHBULK_HOME": str(home)} if home else {}
        self._desk = self.stack.enter_context(
            CommandDesk(directory / "desk", SETTINGS, settings, self.simulator.variables, self._ways(OWN), mine)
        )
        self._desk.home = home or self._desk.home
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
