"""Who takes part: oathbulk, and the same job in other hands, each written as one would in its library for work like
this; how each is started, and which of the promises it gives up. Each peer reads the shipment, activates each device
and keeps each row's result; its module's docstring says why it gives those promises up."""

import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rig import HERE, Rig, follow
from sqlalchemy import func, select

from models.encrypted import generate_key
from models.record import Record
from worker.database.engine import Database
from worker.installation.installation import Installation

# Threads, or jobs at once, of all but oathbulk, which chooses by itself.
CONCURRENCY = os.environ.get("PEER_CONCURRENCY", "8")
# Where the peers keep their results.
TABLE = """
CREATE TABLE IF NOT EXISTS result (
    serial text PRIMARY KEY, status text NOT NULL, detail text, finished_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """`job` is the module that is handed the shipment: with a `worker` it only puts the rows onto a queue."""

    name: str
    title: str
    # The numbers of the promises.
    gives_up: str
    job: str
    worker: tuple[str, ...] = ()
    # The environment in .venv that its packages are in, where they cannot be in ours.
    environment: str | None = None

    @property
    def python(self) -> str:
        return str(Path(sys.prefix, self.environment, "bin", "python")) if self.environment else sys.executable


CONTENDERS = (
    Contender("thread_pool", "thread pool, httpx, tenacity", "3, 4", "peers.thread_pool"),
    Contender(
        "celery_tutorial",
        "Celery as in its tutorial",
        "1, 3, 4",
        "peers.celery_tutorial",
        ("celery", "-A", "peers.celery_tutorial", "worker", "--pool", "threads", "--concurrency", CONCURRENCY),
    ),
    Contender("on_arq", "arq", "1, 3, 4", "peers.on_arq", ("arq", "peers.on_arq.WorkerSettings"), environment="arq"),
    Contender(
        "on_dramatiq",
        "dramatiq",
        "1, 3, 4",
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

    def work(self, timeout: float, file: Path | None = None, rows: int | None = None) -> float:
        """Hand it the shipment, or a part of it that makes so many rows with those before, and wait for the last
        result: the job's CPU, its start included. Raises TimeoutError."""
        spent = self._job(file or self._stack.pairs, timeout)
        if self._contender.worker:
            rows = rows or len(self._stack.shipment.rows)
            with psycopg.connect(self._database_url, autocommit=True) as connection:
                count = "SELECT count(*) FROM result"
                follow(lambda: connection.execute(count).fetchone() == (rows,), timeout, f"{rows} results are kept")
        return spent

    def _job(self, shipment: Path, timeout: float) -> float:
        files = [str(shipment)]
        if not self._contender.worker:
            files.append(str(self._stack.directory / "results.csv"))
        return self._stack.run(self._contender.job, *files, timeout=timeout, python=self._contender.python)


# Far above what one machine can do, so that nothing waits for its slot.
UNLIMITED = 5000.0


class Ours:
    """`rate` is the pace that it is told, in requests a second; None: nothing, so that it looks for the limit."""

    def __init__(self, rig: Rig, *, rate: float | None = UNLIMITED) -> None:
        self._stack = rig
        self.names: list[str] = []
        rig.variables |= {
            "OATHBULK_HOME": str(rig.directory),
            "OATHBULK_REDIS_URL": rig.redis_url,
            "OATHBULK_ENCRYPTION_KEYS": generate_key(),
        }
        if rate is not None:
            rig.variables |= {"PINGONE_RATE": f"{rate:g}", "PINGONE_RATE_MAX": f"{UNLIMITED:g}"}
        self.database_url = f"sqlite:///{rig.directory / 'oathbulk.db'}"
        if rig.database_url:
            self.database_url = rig.variables["OATHBULK_DATABASE_URL"] = rig.database_url

    def start(self, workers: int) -> None:
        """Workers and beat, until they wait for a batch."""
        self.migrate()
        self.names = [f"worker{number}" for number in range(workers)]
        for name in self.names:
            self._stack.start(name, "celery", "-A", "worker", "worker", "-n", f"{name}@bench", "--without-gossip")
        self.names.append("beat")
        self._stack.start("beat", "celery", "-A", "worker", "beat")
        for name in self.names:
            self._stack.wait_until_idle(name)

    def migrate(self) -> None:
        if "OATHBULK_DATABASE_URL" in self._stack.variables:
            self._stack.run("worker", "db", "upgrade", timeout=60)
        else:
            # On one machine the first load makes the home.
            Installation({"OATHBULK_HOME": str(self._stack.directory)}, makes_home=True).database.close()

    def load(self, file: Path | None = None) -> None:
        """The whole shipment, or a part of it; what is due goes out at once."""
        self._stack.run("worker", "load", str(file or self._stack.pairs), "--offline", timeout=120)

    def follow(self, timeout: float, rows: int | None = None) -> None:
        """Wait until all of the shipment is settled, or so many rows of it. Raises TimeoutError."""
        total = rows or len(self._stack.shipment.rows)
        settled = select(func.count(Record.finalized_at))
        with closing(Database(self.database_url)) as database:

            def is_settled() -> bool:
                with database.reading() as connection:
                    return connection.scalar(settled) == total

            follow(is_settled, timeout, f"{total} records are settled")
