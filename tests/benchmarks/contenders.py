"""Who takes part beside oathbulk: how each is started, and which of the promises it gives up."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from peers.results import TABLE
from rig import HERE, Rig, follow

# Threads, or jobs at once, of all but oathbulk, which chooses by itself.
CONCURRENCY = os.environ.get("PEER_CONCURRENCY", "8")


@dataclass(frozen=True, slots=True)
class Contender:
    """`job` is the module that is handed the shipment: with a `worker` it only puts the rows onto a queue."""

    name: str
    title: str
    gives_up: tuple[int, ...]
    job: str
    worker: tuple[str, ...] = ()
    # The environment in .venv that its packages are in, where they cannot be in ours.
    environment: str | None = None

    @property
    def python(self) -> str:
        return str(Path(sys.prefix, self.environment, "bin", "python")) if self.environment else sys.executable

    @property
    def promises(self) -> str:
        return ", ".join(map(str, self.gives_up))


CONTENDERS = (
    Contender("thread_pool", "thread pool, httpx, tenacity", (3, 4), "peers.thread_pool"),
    Contender(
        "celery_tutorial",
        "Celery as in its tutorial",
        (1, 3, 4),
        "peers.celery_tutorial",
        ("celery", "-A", "peers.celery_tutorial", "worker", "--pool", "threads", "--concurrency", CONCURRENCY),
    ),
    Contender("on_arq", "arq", (1, 3, 4), "peers.on_arq", ("arq", "peers.on_arq.WorkerSettings"), environment="arq"),
    Contender(
        "on_dramatiq",
        "dramatiq",
        (1, 3, 4),
        "peers.on_dramatiq",
        ("dramatiq", "peers.on_dramatiq", "--processes", "1", "--threads", CONCURRENCY),
    ),
)


class Run:
    """One contender at its work on a rig."""

    def __init__(self, rig: Rig, contender: Contender) -> None:
        assert rig.database_url is not None
        self._stack = rig
        self._contender = contender
        self._database_url = rig.database_url.replace("+psycopg", "")
        rig.variables |= {
            "PEER_CONCURRENCY": CONCURRENCY,
            "PYTHONPATH": str(HERE),
            "REDIS_URL": rig.redis_url,
            "DATABASE_URL": self._database_url,
        }

    def start(self, workers: int = 1) -> None:
        """Its workers, if it has any, until they wait."""
        contender, rig = self._contender, self._stack
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(TABLE)
        names = [f"worker{number}" for number in range(workers if contender.worker else 0)]
        for name in names:
            rig.start(name, *contender.worker, python=contender.python)
        for name in names:
            rig.wait_until_idle(name)

    def start_cost(self) -> float:
        """CPU of its job when there is nothing to do: what it takes to start Python and to import."""
        file = self._stack.directory / "empty.csv"
        file.write_text("serial,otp1,otp2,user_id,device_id\n")
        return self._job(file, timeout=60)

    def work(self, timeout: float) -> float:
        """Hand it the shipment and wait for the last result: the job's CPU, its start included. Raises TimeoutError."""
        spent = self._job(self._stack.pairs, timeout)
        if self._contender.worker:
            rows = len(self._stack.shipment.rows)
            with psycopg.connect(self._database_url, autocommit=True) as connection:
                count = "SELECT count(*) FROM result"
                follow(lambda: connection.execute(count).fetchone() == (rows,), timeout, f"{rows} results are kept")
        return spent

    def _job(self, shipment: Path, timeout: float) -> float:
        files = [str(shipment)]
        if not self._contender.worker:
            files.append(str(self._stack.directory / "results.csv"))
        return self._stack.run(self._contender.job, *files, timeout=timeout, python=self._contender.python)
