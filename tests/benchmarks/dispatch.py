"""What it costs to dispatch and publish a record, beside what its activation costs, in one run.

    python tests/benchmarks/dispatch.py [--records N]

This process ticks once a second, as a worker does when beat tells it to, while a worker activates what is put onto the
queue, at a simulator without limits. CPU is what the kernel accounts to either process; what database and Valkey do
for them is not parted. Ticks that find nothing to do count as well.
"""

from __future__ import annotations

import argparse
import math
import os
import time

from ours import Ours
from rig import Rig, end_in_good_order, grown

from worker.simulator.shipment import make_shipment

TIMEOUT = 600
TICK = 1.0


class Ticks:
    """The dispatcher in this process, and the seconds of CPU that it took so far."""

    def __init__(self) -> None:
        # Here, since they read their settings when they are imported.
        from worker.tasks import parts

        self._dispatcher = parts.dispatcher
        # What is done once, connecting above all.
        self._dispatcher.tick()
        self._due_at = -math.inf
        self.cpu = 0.0

    def tick(self) -> None:
        if (now := time.monotonic()) >= self._due_at:
            self._due_at = now + TICK
            began = time.process_time()
            self._dispatcher.tick()
            self.cpu += time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=6000)
    records = parser.parse_args().records
    end_in_good_order()
    with Rig(make_shipment(records)) as rig:
        rig.simulate()
        ours = Ours(rig)
        ours.start(1, with_beat=False)
        os.environ |= rig.variables
        ticks = Ticks()
        before = rig.cpu()
        ours.load()
        ours.follow(TIMEOUT, meanwhile=ticks.tick)
        dispatch = 1000 * ticks.cpu / records
        activation = 1000 * grown(before, rig.cpu())[ours.names[0]] / records
    print("| records | CPU ms a record: dispatching and publishing | activation | ratio |")
    print("|---|---|---|---|")
    print(f"| {records:,} | {dispatch:.3f} | {activation:.2f} | {activation / dispatch:.1f} |")


if __name__ == "__main__":
    main()
