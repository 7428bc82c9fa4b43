"""The servers and processes of one round of a benchmark: started, watched, and gone when it ends; and the CPU that they
used and the memory that they have, as the kernel accounts it to them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

from worker.simulator.shipment import MadeShipment

HERE = Path(__file__).parent
# Often enough to see the end, and seldom enough not to slow it.
LOOK = 0.25
STOP_TIMEOUT = 30
# A started process that waits may poll: what it uses in a look is less than this; and seconds between two looks.
IDLE, IDLE_LOOK = 0.06, 0.5
TICKS = os.sysconf("SC_CLK_TCK")


class Rig:
    """Valkey, PostgreSQL unless it is told otherwise, and a simulator with the shipment's world."""

    def __init__(self, shipment: MadeShipment, *, on_postgres: bool = True) -> None:
        self.shipment = shipment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._exits = ExitStack()
        self.directory = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="oathbulk-bench-")))
        valkey = self._exits.enter_context(ValkeyServer())
        self.servers = {"valkey": valkey.pid}
        self.redis_url = valkey.url
        self.database_url: str | None = None
        if on_postgres:
            postgres = self._exits.enter_context(PostgresServer(durable=True))
            self.database_url = self._exits.enter_context(postgres.database())
            self.servers["postgres"] = postgres.pid
        self._exits.callback(self._stop)
        world = shipment.world
        self.variables = {
            "PATH": os.environ["PATH"],
            "PINGONE_ENVIRONMENT_ID": world.environment_id,
            "PINGONE_CLIENT_ID": world.client_id,
            "PINGONE_CLIENT_SECRET": world.client_secret,
        }

    @property
    def pairs(self) -> Path:
        """The shipment's file."""
        file = self.directory / "shipment.csv"
        if not file.exists():
            self.shipment.write_pairs(file)
        return file

    def start(self, name: str, *argv: str, python: str = sys.executable, **variables: str) -> None:
        """Run a module until the round ends."""
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [python, "-m", *argv], env=self.variables | variables, cwd=self.directory, stdout=log, stderr=log
            )

    def wait_until_idle(self, name: str, timeout: float = 60) -> None:
        """Until it has no more to do; however it says that it is ready, its start is over then. Raises RuntimeError if
        it ended instead, and TimeoutError."""
        process, give_up_at = self.processes[name], time.monotonic() + timeout
        quiet, before = 0, cpu(process.pid)
        while quiet < 3:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{name} did not come to rest within {timeout:g} s")
            time.sleep(IDLE_LOOK)
            now = cpu(process.pid)
            quiet = quiet + 1 if now - before <= IDLE else 0
            before = now
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended:\n{(self.directory / f'{name}.log').read_text(errors='replace')[-2000:]}")

    def run(self, *argv: str, timeout: float, python: str = sys.executable) -> float:
        """Run a module to its end: the seconds of CPU that it took, its start included."""
        log = self.directory / "run.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, "-m", *argv], env=self.variables, cwd=self.directory, stdout=output, stderr=output
            )
        self.processes[argv[0]] = process
        give_up_at = time.monotonic() + timeout
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"not within {timeout:g} s: {' '.join(argv)} ends")
            time.sleep(0.02)
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(argv)} failed:\n{log.read_text(errors='replace')[-2000:]}")
        return usage.ru_utime + usage.ru_stime

    def simulate(self, **settings: Any) -> None:
        """Start the watched simulator with these settings."""
        world, ready = self.directory / "world.json", self.directory / "ready.json"
        world.write_text(json.dumps(self.shipment.world_json() | {"settings": settings}))
        files = ("--world", str(world), "--ready-file", str(ready))
        self.start("simulator", "support.simulator", *files, PYTHONPATH=str(HERE.parent))
        wait_until(ready.exists, "the simulator listens")
        # It stands for a service elsewhere, which does not wait for this machine's processors.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self.processes["simulator"].pid, -15)
        self._url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
        self.variables |= {"PINGONE_API_URL": f"{self._url}/v1", "PINGONE_TOKEN_URL": f"{self._url}/{{env}}/as/token"}

    def ask(self, what: str) -> dict[str, Any]:
        """The simulator's control API."""
        answer = httpx.get(f"{self._url}/simulator/{what}", timeout=30, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def activated(self) -> int:
        return int(self.ask("counts")["devices"].get("ACTIVE", 0))

    def clear_counts(self) -> None:
        httpx.post(f"{self._url}/simulator/counts/clear", timeout=30, trust_env=False).raise_for_status()

    def span(self) -> float:
        """Seconds from the first activation that the simulator saw, since its counts were cleared, to the end of the
        last call."""
        counts = self.ask("counts")
        return float(counts["ended_at"] - counts["began_at"])

    def cpu(self) -> dict[str, float]:
        """Seconds used so far by each process and server."""
        running = {name: process.pid for name, process in self.processes.items() if process.poll() is None}
        return {name: cpu(pid) for name, pid in (running | self.servers).items()}

    def _stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()


def follow(is_done: Any, timeout: float, what: str) -> None:
    """Wait for the end of a long run. Raises TimeoutError."""
    give_up_at = time.monotonic() + timeout
    while not is_done():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(LOOK)


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: used - before.get(name, 0.0) for name, used in after.items()}


def end_in_good_order() -> None:
    """SIGTERM (which timeout(1) sends) ends what was started, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def told(what: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"{what} …", file=sys.stderr, end=" ", flush=True)
    yield
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and its children; 0 of one that has ended, which is in its parent's time then."""
    try:
        return ticks(pid) + sum(map(cpu, children(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def resident(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # User and system time, of the process and of its children that ended.
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> list[int]:
    """Of all its threads; a thread may end while it is looked at."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / "children").read_text().split())
    return found
