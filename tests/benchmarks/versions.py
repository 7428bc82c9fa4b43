"""CPU a record and records a second of several versions of oathbulk, in slices that take turns within one run.

    python tests/benchmarks/versions.py FOLDER[@THREADS]… [--records N] [--slices N] [--workers N]

Each folder holds a version, as `git worktree add FOLDER COMMIT` leaves it; all run on this one's packages. Its workers
have so many threads each, or as many as they come to by themselves. Each has a database and queue of its own on the
same servers, and a simulator without limits. The first slice warms up, and is not told. CPU is that of workers and
beat, events on, and that of PostgreSQL, which has the load in it; ratios are to the first version.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from contenders import Ours
from rig import Rig, cpu, end_in_good_order, told
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
    """CPU in milliseconds a record, and records a second."""

    ours: float
    postgres: float
    pace: float


class Version:
    """The processes of one version, which run until the rig ends. `name` is its FOLDER[@THREADS], and `number` tells it
    from the others."""

    def __init__(self, rig: Rig, name: str, number: int) -> None:
        self.name = name
        place, _, threads = name.partition("@")
        self.slices: list[Slice] = []
        self._stack, self._number = rig, number
        self._ours = Ours(rig, database_url=rig.another_database())
        home = rig.directory / f"version{number}"
        home.mkdir()
        self._variables = rig.variables | {
            "OATHBULK_HOME": str(home),
            "OATHBULK_REDIS_URL": rig.redis_url.rpartition("/")[0] + f"/{number}",
            "PYTHONPATH": str(Path(place).resolve()),
        }
        if threads:
            self._variables["OATHBULK_CONCURRENCY"] = threads
        self._done = 0

    def start(self, workers: int) -> None:
        self._stack.variables = self._variables
        self._ours.start(workers, f" of {self._number}")

    def activate(self, file: Path, records: int) -> None:
        """Load a file of so many records, and measure until all are settled."""
        self._stack.variables = self._variables
        own, postgres = self._own_cpu(), cpu(self._stack.servers["postgres"])
        self._stack.run("worker", "load", str(file), "--offline", timeout=TIMEOUT)
        self._done += records
        self._ours.follow(TIMEOUT, total=self._done)
        own, postgres = self._own_cpu() - own, cpu(self._stack.servers["postgres"]) - postgres
        self.slices.append(Slice(1000 * own / records, 1000 * postgres / records, records / self._read_seconds()))

    def _read_seconds(self) -> float:
        """Seconds from the first record of the last batch to its last."""
        with closing(Database(self._ours.database_url)) as database, database.reading() as connection:
            first, last = connection.execute(_ENDS).one()
        return float((last - first).total_seconds())

    def _own_cpu(self) -> float:
        return sum(cpu(self._stack.processes[name].pid) for name in self._ours.names)


def cut(rig: Rig, size: int) -> Iterator[Path]:
    """The shipment in files of `size` rows each."""
    shipment = rig.shipment
    for start in range(0, len(shipment.rows), size):
        file = rig.directory / f"from{start}.csv"
        replace(shipment, rows=shipment.rows[start : start + size]).write_pairs(file)
        yield file


def print_table(versions: Sequence[Version]) -> None:
    first = versions[0]
    print("| version | records/s | CPU ms a record | of the first | database | of the first |")
    print("|---|---|---|---|---|---|")
    for version in versions:
        pace = statistics.median(each.pace for each in version.slices)
        row = [version.name, f"{pace:.0f}"]
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
    parser.add_argument("versions", nargs="+", metavar="FOLDER[@THREADS]")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    end_in_good_order()
    records, rounds = arguments.records, arguments.slices + 1
    with Rig(make_shipment(records * rounds * len(arguments.versions))) as rig:
        rig.simulate()
        versions = [Version(rig, name, number) for number, name in enumerate(arguments.versions, 1)]
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
