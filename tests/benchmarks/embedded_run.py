"""`oathbulk run` on the embedded stack beside a simulator, and a hand that kills its worker."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpu import children
from support.servers.simulator import Simulator

from worker.config.sources import load_settings
from worker.database.engine import Database
from worker.simulator.shipment import MadeShipment

# Minutes become seconds. No shorter, or a busy machine would add losses of its own.
SETTINGS = {
    "_OATHBULK_TUNING__call_deadline": "8",
    "_OATHBULK_TUNING__lease_left_for_post": "9",
    "_OATHBULK_TUNING__lease": "30",
    "_OATHBULK_TUNING__queue_lease": "20",
    "_OATHBULK_TUNING__read_delay": "3",
    "_OATHBULK_TUNING__not_found_delay": "2",
    "_OATHBULK_TUNING__outage_hold": "1",
    "PINGONE_RATE": "200",
}
# Seconds. Counting ten thousand devices costs the simulator some hundredths of a second each time.
LOOK = 1.0
# What the command line of the stack's worker ends with.
WORKER = "worker.installation.stack_process\0worker\0"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command, with the processes that it started. Times in seconds."""

    wall: float
    cpu: float
    exit_code: int
    kills: int = 0


class EmbeddedRun:
    """A home of oathbulk's, and a simulator with the world of a shipment. `settings` go before SETTINGS."""

    def __init__(
        self, folder: Path, shipment: MadeShipment, settings: Mapping[str, str] | None = None, **simulated: Any
    ) -> None:
        self.folder = folder
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("OATHBULK_", "PINGONE_"))}
        self.simulator = Simulator(folder, shipment, plain, **simulated)
        self._variables = {"OATHBULK_HOME": str(folder / "home"), **SETTINGS, **self.simulator.variables}
        self._variables |= settings or {}
        self._env = plain | self._variables

    def oathbulk(self, *arguments: str, kills_at: tuple[int, ...] = ()) -> Cost:
        """Type a command, and wait for its end. At these numbers of OTPs that arrived its worker is killed (-9)."""
        before, began, kills = _used(), time.monotonic(), 0
        with (self.folder / "oathbulk.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", *arguments], env=self._env, stdout=log, stderr=log
            )
            while process.poll() is None:
                time.sleep(LOOK if kills_at else 0.05)
                if kills < len(kills_at) and self.simulator.posts() >= kills_at[kills]:
                    kills += _kill_worker(process.pid)
        return Cost(time.monotonic() - began, _used() - before, process.returncode, kills)

    def open_database(self) -> Database:
        return Database(load_settings(self._variables).database)


def _kill_worker(run: int) -> int:
    """How many were killed: none, if it is just being started again."""
    killed = 0
    for pid in children(run):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_text().endswith(WORKER):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def _used() -> float:
    """Seconds of processor time of all processes that ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
