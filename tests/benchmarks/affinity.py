"""What it saves that a worker's threads are kept on one processor (docs/decisions/0002): slices with and without, in
turn within one run, at a simulator without limits.

    python tests/benchmarks/affinity.py [--records N] [--slices N]

The worker leaves its threads to the kernel. Where they are to be together, this process gathers them, as a worker does
by itself otherwise. CPU and changes of threads are the kernel's account of that worker, without its start.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpu import cpu
from ours import Ours
from rig import Rig, end_in_good_order, told
from slices import cut

from worker.process.affinity import move_to_this_processor
from worker.simulator.shipment import make_shipment

TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class Figures:
    """A record: CPU in milliseconds, and how often a thread gave way to another."""

    cpu: float
    changes: float


def measure(records: int, slices: int) -> Iterator[tuple[Figures, Figures]]:
    """Spread, and together. The first of each warms up, and is not told."""
    with Rig(make_shipment(2 * records * (slices + 1))) as rig:
        rig.simulate()
        rig.variables["OATHBULK_ONE_PROCESSOR"] = "false"
        ours = Ours(rig)
        ours.start(workers=1)
        pid = rig.processes[ours.names[0]].pid
        everywhere = os.sched_getaffinity(0)
        done, figures = 0, list[Figures]()

        def together() -> None:
            move_to_this_processor(threads(pid))

        for file in cut(rig, records):
            for thread in threads(pid):
                os.sched_setaffinity(thread, everywhere)
            used, changed = cpu(pid), changes(pid)
            ours.load(file)
            done += records
            ours.follow(TIMEOUT, (nothing, together)[len(figures) % 2], total=done)
            figures.append(Figures(1000 * (cpu(pid) - used) / records, (changes(pid) - changed) / records))
        yield from list(zip(figures[::2], figures[1::2], strict=True))[1:]


def nothing() -> None:
    """Where the kernel puts them."""


def threads(pid: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def changes(pid: int) -> int:
    """Of all threads that live, since they began."""
    statuses = "\n".join(task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(line.split()[1]) for line in statuses.splitlines() if "ctxt_switches" in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--slices", type=int, default=16)
    arguments = parser.parse_args()
    end_in_good_order()
    with told(f"{arguments.slices} slices of each"):
        spread, together = zip(*measure(arguments.records, arguments.slices), strict=True)
    print(f"{arguments.slices} slices of {arguments.records} records; medians\n")
    print("| threads | CPU ms a record | changes of threads a record |")
    print("|---|---|---|")
    for name, figures in (("where the kernel puts them", spread), ("on one processor", together)):
        used, changed = (statistics.median(getattr(each, field) for each in figures) for field in ("cpu", "changes"))
        print(f"| {name} | {used:.2f} | {changed:.0f} |")
    low, middle, high = statistics.quantiles([one.cpu / other.cpu for other, one in zip(spread, together, strict=True)])
    print(f"\nRatio {middle:.2f} in the middle, half of the slices between {low:.2f} and {high:.2f}.")


if __name__ == "__main__":
    main()
