"""oathbulk on the stack of a benchmark: its schema, its workers and beat, a load, and the end of the batch."""

from __future__ import annotations

from collections.abc import Callable

from cpu import wait_until_idle
from sqlalchemy import func, select
from stack import Stack, follow

from models.encrypted import generate_key
from models.record import Record
from worker.database import Database

# Far above what one machine can do, so that nothing waits for its slot.
UNLIMITED = 5000.0


class Ours:
    """`rate` is the pace that it is told, in requests a second, and that it never goes above `highest`; None: nothing,
    so that it looks for the limit."""

    def __init__(self, stack: Stack, *, rate: float | None = UNLIMITED, highest: float = UNLIMITED) -> None:
        self._stack = stack
        self.names: list[str] = []
        stack.variables |= {
            "OATHBULK_HOME": str(stack.directory),
            "OATHBULK_REDIS_URL": stack.redis_url,
        }
        if rate is not None:
            stack.variables |= {"PINGONE_RATE": f"{rate:g}", "PINGONE_RATE_MAX": f"{highest:g}"}
        self.database_url = f"sqlite:///{stack.directory / 'oathbulk.db'}"
        if stack.database_url is not None:
            self.database_url = stack.database_url
            key = generate_key()
            stack.variables |= {"OATHBULK_DATABASE_URL": stack.database_url, "OATHBULK_ENCRYPTION_KEYS": key}

    def start(self, workers: int, *, with_beat: bool = True) -> None:
        """Workers and beat, until they wait for a batch."""
        self.migrate()
        self.names = [f"worker{number}" for number in range(workers)]
        for name in self.names:
            self._stack.start(name, "celery", "-A", "worker", "worker", "-n", f"{name}@bench", "--without-gossip")
        if with_beat:
            self.names.append("beat")
            self._stack.start("beat", "celery", "-A", "worker", "beat")
        for name in self.names:
            wait_until_idle(self._stack.processes[name].pid)

    def migrate(self) -> None:
        self._stack.run("worker", "db", "upgrade", timeout=60)

    def load(self) -> None:
        """What is due goes out at once."""
        self._stack.run("worker", "load", str(self._stack.pairs), "--batch", "bench", timeout=120)

    def follow(self, timeout: float, meanwhile: Callable[[], object] = lambda: None) -> float:
        """Seconds from the first settled record to the last, by the database's clock. Raises TimeoutError."""
        database = Database(self.database_url)
        settled = select(func.count(Record.finalized_at), func.min(Record.finalized_at), func.max(Record.finalized_at))
        total = len(self._stack.shipment.rows)

        def read() -> tuple[int, float]:
            meanwhile()
            with database.reading() as connection:
                count, first, last = connection.execute(settled).one()
            return count, (last - first).total_seconds() if count else 0.0

        try:
            follow(lambda: read()[0] == total, timeout, f"{total} records are settled")
            return read()[1]
        finally:
            database.close()
