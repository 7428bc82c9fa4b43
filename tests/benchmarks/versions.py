"""CPU a record and records a second of several versions of oathbulk, in slices that take turns within one run.

    python tests/benchmarks/versions.py FOLDER… [--records N] [--slices N] [--workers N] [--threads N]

Each folder holds a version, as `git worktree add FOLDER COMMIT` leaves it; all run on this one's packages. Each has a
database and queue of its own on the same servers, and a simulator without limits. The first slice warms up, and is not
told. CPU is that of workers and beat, events on, and of PostgreSQL; ratios are to the first folder.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cpu import cpu
from ours import Ours
from rig import Rig, end_in_good_order, told
from slices import cut
from sqlalchemy import func, select

from models.record import Record
from worker.database.engine import Database
from worker.simulator.shipment import make_shipment

TIMEOUT = 300
_LAST_BATCH = select(func.max(Record.batch_id)).scalar_subquery()
# When the first and the last record of the last batch were settled.
_ENDS = select(func.min(Record.finalized_at), func.max(Record.finalized_at)).where(Record.batch_id == _LAST_BATCH)


@dataclass(frozen=True, slots=True)
class Slice:
    """CPU in milliseconds a record."""

    ours: float
    postgres: float
    pace: float


@dataclass
class Version:
    """The processes of one version, which run until the rig ends."""

    rig: Rig
    folder: Path
    number: int
    threads: int | None
    slices: list[Slice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ours = Ours(self.rig, database_url=self.rig.another_database())
        home = self.rig.directory / f"version{self.number}"
        home.mkdir()
        self._variables = self.rig.variables | {
            "OATHBULK_HOME": str(home),
            "OATHBULK_REDIS_URL": self.rig.redis_url.rpartition("/")[0] + f"/{self.number}",
            "PYTHONPATH": str(self.folder.resolve()),
        }
        if self.threads is not None:
            self._variables["OATHBULK_CONCURRENCY"] = str(self.threads)
        # Versions before the preflight load without it.
        has_preflight = (self.folder / "worker" / "cli" / "preflight.py").exists()
        self._options = ["--offline"] if has_preflight else []
        self._names: list[str] = []
        self._done = 0

    def start(self, workers: int) -> None:
        self.rig.variables = self._variables
        self._ours.migrate()
        for number in range(workers):
            name = f"worker{number} of {self.number}"
            self.rig.start(name, "celery", "-A", "worker", "worker", "-n", f"w{number}@bench", "--without-gossip")
            self._names.append(name)
        beat = f"beat of {self.number}"
        self.rig.start(beat, "celery", "-A", "worker", "beat")
        self._names.append(beat)
        for name in self._names:
            self.rig.wait_until_idle(name)

    def activate(self, file: Path, records: int) -> None:
        """Load a file of so many records, and measure until all are settled."""
        self.rig.variables = self._variables
        own, postgres = self._own_cpu(), cpu(self.rig.servers["postgres"])
        self.rig.run("worker", "load", str(file), *self._options, timeout=TIMEOUT)
        self._done += records
        self._ours.follow(TIMEOUT, total=self._done)
        own, postgres = self._own_cpu() - own, cpu(self.rig.servers["postgres"]) - postgres
        self.slices.append(Slice(1000 * own / records, 1000 * postgres / records, records / self._read_seconds()))

    def _read_seconds(self) -> float:
        """Seconds from the first record of the last batch to its last."""
        with closing(Database(self._ours.database_url)) as database, database.reading() as connection:
            first, last = connection.execute(_ENDS).one()
        return float((last - first).total_seconds())

    def _own_cpu(self) -> float:
        return sum(cpu(self.rig.processes[name].pid) for name in self._names)


def print_table(versions: Sequence[Version]) -> None:
    first = versions[0]
    print("| version | records/s | CPU ms a record | of the first | database | of the first |")
    print("|---|---|---|---|---|---|")
    for version in versions:
        pace = statistics.median(each.pace for each in version.slices)
        row = [str(version.folder), f"{pace:.0f}"]
        for part in ("ours", "postgres"):
            figures = [[getattr(each, part) for each in which.slices] for which in (version, first)]
            ratios = [own / other for own, other in zip(*figures, strict=True)]
            row += [
                f"{statistics.median(figures[0]):.2f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            ]
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each worker; otherwise as many as it comes to by itself")
    arguments = parser.parse_args()
    end_in_good_order()
    records, rounds = arguments.records, arguments.slices + 1
    with Rig(make_shipment(records * rounds * len(arguments.folders))) as rig:
        rig.simulate()
        versions = [
            Version(rig, folder, number, arguments.threads) for number, folder in enumerate(arguments.folders, 1)
        ]
        for version in versions:
            version.start(arguments.workers)
        files = cut(rig, records)
        for number in range(rounds):
            with told(f"slice {number}"):
                # Whoever was last is first the next time.
                for version in versions[:: 1 if number % 2 else -1]:
                    version.activate(next(files), records)
        for version in versions:
            del version.slices[0]
    print_table(versions)


if __name__ == "__main__":
    main()
