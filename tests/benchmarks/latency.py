"""How long a claim and a settlement take at a pace at which nothing waits for anything else: p50 and p99 in
milliseconds, each with its commit.

    python tests/benchmarks/latency.py [--rate N] [--records N] [--sqlite]

One process with its usual threads works through the records as a worker does, without Celery: a thread each, at this
many a second. Run it in two versions of the tree, in turn, to tell one from the other.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ours import Ours
from rig import Rig, end_in_good_order

from worker.simulator.shipment import make_shipment

THREADS = 8


def measure(records: int, rate: float, *, on_postgres: bool) -> dict[str, list[float]]:
    """Seconds of each call, by its name."""
    with Rig(make_shipment(records), on_postgres=on_postgres) as rig:
        rig.simulate()
        ours = Ours(rig)
        ours.migrate()
        ours.load()
        os.environ |= rig.variables
        # Here, since it reads its settings when it is imported.
        from worker.tasks import parts

        waiting = list[tuple[int, str]]()
        parts.dispatcher._broker = Sink(waiting)
        took = {name: timed(parts.leases, name) for name in ("claim", "settle")}
        done = 0
        with ThreadPoolExecutor(THREADS) as pool:
            begins_at = time.monotonic()
            while done < records:
                if not waiting:
                    parts.dispatcher.tick()
                while waiting:
                    time.sleep(max(begins_at + done / rate - time.monotonic(), 0.0))
                    pool.submit(parts.activations.run, *waiting.pop())
                    done += 1
        return took


class Sink:
    """A broker that hands over what it is given."""

    def __init__(self, waiting: list[tuple[int, str]]) -> None:
        self._waiting = waiting

    def count_waiting(self) -> int:
        return len(self._waiting)

    def publish(self, ids: Any, environment: str, *, is_ahead: bool = False, labels: object = None) -> None:
        self._waiting.extend((record_id, environment) for record_id in ids)


def timed(target: object, name: str) -> list[float]:
    """Note from here on how long each call of this method takes."""
    took, call = list[float](), getattr(target, name)

    def timing(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            took.append(time.perf_counter() - began)

    setattr(target, name, timing)
    return took


def percentile(took: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(took)[min(int(share * len(took)), len(took) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--sqlite", action="store_true")
    arguments = parser.parse_args()
    end_in_good_order()
    took = measure(arguments.records, arguments.rate, on_postgres=not arguments.sqlite)
    print("| | p50 ms | p99 ms |")
    print("|---|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {percentile(seconds, 0.5):.2f} | {percentile(seconds, 0.99):.2f} |")


if __name__ == "__main__":
    main()
