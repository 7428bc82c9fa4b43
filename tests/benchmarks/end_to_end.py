"""Records a second and CPU a record, end to end, at a simulator without limits: PostgreSQL and embedded (SQLite), one
and two worker processes, in turn within one run.

    python tests/benchmarks/end_to_end.py [--records N] [--rounds N]

CPU is what the kernel accounts to each process while the records are activated; `ours` is workers and beat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import func, select
from support.postgres import PostgresServer
from support.processes import wait_until
from support.valkey import ValkeyServer

from models.encrypted import generate_key
from models.record import Record
from worker.database import Database
from worker.simulator.shipment import MadeShipment, make_shipment

TICKS = os.sysconf("SC_CLK_TCK")
# Far above what this machine can do, so that nothing waits for its slot.
UNLIMITED = "5000"


@dataclass
class Round:
    records: int
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def pace(self) -> float:
        return self.records / self.seconds

    def milliseconds(self, *names: str) -> float:
        return 1000 * sum(self.cpu[name] for name in names) / self.records


class Bench:
    """The processes of one round; everything is gone when it ends."""

    def __init__(self, directory: Path, shipment: MadeShipment, database_url: str | None, redis_url: str) -> None:
        self.directory = directory
        self.shipment = shipment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.variables = {
            "PATH": os.environ["PATH"],
            "OATHBULK_HOME": str(directory),
            "OATHBULK_REDIS_URL": redis_url,
            "PINGONE_ENVIRONMENT_ID": shipment.world.environment_id,
            "PINGONE_CLIENT_ID": shipment.world.client_id,
            "PINGONE_CLIENT_SECRET": shipment.world.client_secret,
            "PINGONE_RATE": UNLIMITED,
        }
        if database_url is not None:
            self.variables |= {"OATHBULK_DATABASE_URL": database_url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
        self.database_url = database_url or f"sqlite:///{directory / 'oathbulk.db'}"

    def start(self, name: str, *argv: str) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *argv], env=self.variables, stdout=log, stderr=log
            )

    def command(self, *argv: str) -> None:
        subprocess.run([sys.executable, "-m", "worker", *argv], env=self.variables, check=True, capture_output=True)

    def simulate(self) -> None:
        world, ready = self.directory / "world.json", self.directory / "ready.json"
        self.shipment.write_world(world)
        self.start("simulator", "worker", "simulator", "--port", "0", "--world", str(world), "--ready-file", str(ready))
        wait_until(ready.exists, 20, "the simulator listens")
        url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
        self.variables |= {"PINGONE_API_URL": f"{url}/v1", "PINGONE_TOKEN_URL": f"{url}/{{env}}/as/token"}

    def load(self) -> None:
        pairs = self.directory / "shipment.csv"
        self.shipment.write_pairs(pairs)
        self.command("db", "upgrade")
        self.command("load", str(pairs), "--batch", "bench")

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=60)


def run_round(records: int, workers: int, *, on_postgres: bool) -> Round:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oathbulk-bench-")))
        valkey = stack.enter_context(ValkeyServer())
        postgres = stack.enter_context(PostgresServer(durable=True)) if on_postgres else None
        url = stack.enter_context(postgres.database()) if postgres else None
        bench = Bench(directory, make_shipment(records), url, valkey.url)
        stack.callback(bench.stop)
        bench.simulate()
        bench.load()
        names = [f"worker{number}" for number in range(workers)]
        for name in names:
            bench.start(name, "celery", "-A", "worker", "worker", "-n", f"{name}@bench", "--without-gossip")
            wait_until(lambda name=name: has_joined(bench, name), 30, f"{name} is ready")
        before = {name: cpu(process.pid) for name, process in bench.processes.items()}
        servers = {"valkey": valkey.pid} | ({"postgres": postgres.pid} if postgres else {})
        before |= {name: cpu(pid) for name, pid in servers.items()}
        bench.start("beat", "celery", "-A", "worker", "beat")
        seconds = follow(bench.database_url, records)
        pids = {name: process.pid for name, process in bench.processes.items()} | servers
        result = Round(records, seconds, {name: cpu(pid) - before.get(name, 0.0) for name, pid in pids.items()})
        result.cpu["ours"] = sum(result.cpu[name] for name in [*names, "beat"])
        return result


def has_joined(bench: Bench, name: str) -> bool:
    inspection = ("celery", "-A", "worker", "inspect", "ping", "-d", f"{name}@bench", "-t", "1")
    return subprocess.run([sys.executable, "-m", *inspection], env=bench.variables, capture_output=True).returncode == 0


def follow(url: str, records: int) -> float:
    """Seconds from the first settled record to the last, by the database's clock."""
    database = Database(url)
    settled = select(func.count(Record.finalized_at), func.min(Record.finalized_at), func.max(Record.finalized_at))

    def read() -> tuple[int, float]:
        with database.reading() as connection:
            count, first, last = connection.execute(settled).one()
        return count, (last - first).total_seconds() if count else 0.0

    wait_until(lambda: read()[0] == records, 600, "every record is settled")
    seconds = read()[1]
    database.close()
    return seconds


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and its living children."""
    try:
        used = ticks(pid)
    except FileNotFoundError:
        return 0.0
    return used + sum(cpu(child) for child in children(pid))


def ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # User and system time, of the process and of its children that ended.
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@contextmanager
def told(what: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"{what} …", file=sys.stderr, end=" ", flush=True)
    yield
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    variants = [(on_postgres, workers) for on_postgres in (True, False) for workers in (1, 2)]
    rounds: dict[tuple[bool, int], list[Round]] = {variant: [] for variant in variants}
    for number in range(arguments.rounds):
        for on_postgres, workers in variants:
            with told(f"round {number + 1}, {'PostgreSQL' if on_postgres else 'embedded'}, {workers} worker(s)"):
                result = run_round(arguments.records, workers, on_postgres=on_postgres)
                rounds[on_postgres, workers].append(result)
    print(f"{arguments.records} records, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print("| database | workers | records/s | CPU ms a record: ours | beat | database | Valkey | simulator |")
    print("|---|---|---|---|---|---|---|---|")
    for (on_postgres, workers), results in rounds.items():
        row = [f"{statistics.median(result.pace for result in results):.0f}"]
        for name in ("ours", "beat", "postgres", "valkey", "simulator"):
            known = [result.milliseconds(name) for result in results if name in result.cpu]
            row.append(f"{statistics.median(known):.2f}" if known else "in ours")
        print(f"| {'PostgreSQL' if on_postgres else 'SQLite'} | {workers} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
