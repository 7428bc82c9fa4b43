"""oathbulk on the rig of a benchmark: its schema, its workers and beat, a load, and the end of the batch."""

from contextlib import closing
from pathlib import Path

from rig import Rig, follow
from sqlalchemy import func, select

from models.encrypted import generate_key
from models.record import Record
from worker.database.engine import Database
from worker.installation.installation import Installation

# Far above what one machine can do, so that nothing waits for its slot.
UNLIMITED = 5000.0


class Ours:
    """`rate` is the pace that it is told, in requests a second; None: nothing, so that it looks for the limit."""

    def __init__(self, rig: Rig, *, rate: float | None = UNLIMITED, database_url: str | None = None) -> None:
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
        if url := database_url or rig.database_url:
            self.database_url = url
            rig.variables["OATHBULK_DATABASE_URL"] = url

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

    def load(self, pairs: Path | None = None) -> None:
        """The whole shipment, unless told otherwise; what is due goes out at once."""
        file = pairs or self._stack.pairs
        self._stack.run("worker", "load", str(file), "--offline", timeout=120)

    def follow(self, timeout: float, *, total: int | None = None) -> None:
        """Wait until all of the shipment, or `total` of it, is settled. Raises TimeoutError."""
        total = total or len(self._stack.shipment.rows)
        settled = select(func.count(Record.finalized_at))
        with closing(Database(self.database_url)) as database:

            def is_settled() -> bool:
                with database.reading() as connection:
                    return connection.scalar(settled) == total

            follow(is_settled, timeout, f"{total} records are settled")
