"""CPU a record of oathbulk beside the floor's, in short slices that take turns within one run: what a shared machine
gains or loses from one minute to the next falls on both.

    python tests/benchmarks/slices.py [--records N] [--slices N]

The floor is that of peers/floor.py: a Celery task that does nothing, bare HTTP calls and the raw SQL, summed. All
processes are there from the first slice to the last, so that no start is in the figures. A slice of oathbulk is a
small batch from its load, which is not in it, to its end: worker and beat, events on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from celery import Celery
from contenders import CONCURRENCY
from cpu import cpu
from ours import Ours
from rig import HERE, Rig, end_in_good_order, follow, grown, told

from worker.simulator.shipment import make_shipment

TIMEOUT = 120
WORKER = "floor"


class Floor:
    """Its worker, and its other parts in this process."""

    def __init__(self, rig: Rig, database_url: str) -> None:
        rig.variables |= {
            "PYTHONPATH": str(HERE),
            "REDIS_URL": rig.redis_url.rpartition("/")[0] + "/1",
            "DATABASE_URL": database_url.replace("+psycopg", ""),
        }
        worker = ("celery", "-A", "peers.floor", "worker", "--pool", "threads", "--concurrency", CONCURRENCY, "-E")
        rig.start(WORKER, *worker, "--without-gossip")
        rig.wait_until_idle(WORKER)
        self._pid = rig.processes[WORKER].pid
        # It reads its settings when it is imported.
        os.environ |= rig.variables
        self._floor: Any = import_module("peers.floor")
        self._ask = Celery(broker=rig.variables["REDIS_URL"]).control.inspect(timeout=0.5)
        self._done = 0

    def slice(self, shipment: Path, records: int) -> dict[str, float]:
        """Seconds of CPU by part."""
        return {
            "task": self._task(records),
            "http": own_cpu(lambda: self._floor.http(str(shipment))),
            "sql": own_cpu(lambda: self._floor.sql(records)),
        }

    def _task(self, records: int) -> float:
        before = cpu(self._pid)
        published = own_cpu(lambda: self._floor.publish(records))
        self._done += records

        def is_done() -> bool:
            return any(told["total"].get("floor.nothing") == self._done for told in (self._ask.stats() or {}).values())

        follow(is_done, TIMEOUT, f"{self._done} tasks have run")
        return published + cpu(self._pid) - before


def own_cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@dataclass(frozen=True, slots=True)
class Slice:
    """CPU in milliseconds a record: of oathbulk, and of the floor by part."""

    ours: float
    parts: dict[str, float]

    @property
    def floor(self) -> float:
        return sum(self.parts.values())


def measure(records: int, slices: int) -> Iterator[Slice]:
    """`records` in a slice of each. The first warms both up, and is not told: they connect, and what else is done
    once."""
    with Rig(make_shipment(2 * records * (slices + 1))) as rig:
        rig.simulate()
        of_floor = Ours(rig, database_url=rig.another_database())
        of_floor.migrate()
        of_floor.load()
        floor = Floor(rig, of_floor.database_url)
        ours = Ours(rig)
        ours.start(workers=1)
        files = cut(rig, records)
        for number in range(slices + 1):
            before = rig.cpu()
            ours.load(next(files))
            ours.follow(TIMEOUT, total=(number + 1) * records)
            used = grown(before, rig.cpu())
            parts = floor.slice(next(files), records)
            if number:
                own = 1000 * sum(used[name] for name in ours.names) / records
                yield Slice(own, {part: 1000 * seconds / records for part, seconds in parts.items()})


def cut(rig: Rig, size: int) -> Iterator[Path]:
    """The shipment in files of `size` rows each."""
    shipment = rig.shipment
    for start in range(0, len(shipment.rows), size):
        file = rig.directory / f"from{start}.csv"
        replace(shipment, rows=shipment.rows[start : start + size]).write_pairs(file)
        yield file


def told_ratio(slices: Sequence[Slice]) -> str:
    ratios = [each.ours / each.floor for each in slices]
    low, middle, high = statistics.quantiles(ratios)
    ours, floor = (statistics.median(getattr(each, name) for each in slices) for name in ("ours", "floor"))
    parts = (f"{part} {statistics.median(each.parts[part] for each in slices):.2f}" for part in slices[0].parts)
    return (
        f"In {len(slices)} slices in turn: oathbulk {ours:.2f} ms, the floor {floor:.2f} ({' + '.join(parts)}); "
        f"ratio {middle:.2f} in the middle, half of the slices between {low:.2f} and {high:.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--slices", type=int, default=32)
    arguments = parser.parse_args()
    end_in_good_order()
    with told(f"{arguments.slices} slices"):
        slices = list(measure(arguments.records, arguments.slices))
    print(told_ratio(slices))


if __name__ == "__main__":
    main()
