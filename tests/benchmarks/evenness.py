"""How evenly requests leave: at a fixed pace, how many of them a token bucket that fills hardly faster must forgive.

    python tests/benchmarks/evenness.py [--records N] [--rate N] [--workers N] [--latency MS]

The simulator has no limit here; what a bucket would have held is worked out from the times at which requests came. The
first and the last twentieth are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from ours import Ours
from rig import Rig, end_in_good_order

from worker.simulator.shipment import make_shipment

TIMEOUT = 600
PAGE = 5000
# How much faster than the pace the bucket fills.
FASTER = (1.005, 1.01, 1.02, 1.05)


def arrivals(records: int, rate: float, workers: int, latency: float) -> list[float]:
    """Seconds."""
    with Rig(make_shipment(records)) as rig:
        rig.simulate(latency=latency / 1000)
        ours = Ours(rig, rate=rate, highest=rate)
        ours.start(workers)
        ours.load()
        ours.follow(TIMEOUT)
        return sorted(entry["arrived_at"] for entry in journal(rig) if entry["operation"] == "activate")


def journal(rig: Rig) -> Iterator[dict[str, object]]:
    after = 0
    while entries := rig.ask("journal", after=after, limit=PAGE)["entries"]:
        yield from entries
        after += len(entries)


def missing(times: Sequence[float], rate: float) -> list[float]:
    """What lacks in the bucket after each request; it fills at this rate."""
    lacking, last, found = 0.0, times[0], []
    for time in times:
        lacking = max(0.0, lacking - (time - last) * rate) + 1
        last = time
        found.append(lacking)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--rate", type=float, default=196.0, help="requests a second")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.0, help="of PingOne's answers, in milliseconds")
    arguments = parser.parse_args()
    end_in_good_order()
    times = arrivals(arguments.records, arguments.rate, arguments.workers, arguments.latency)
    edge = len(times) // 20
    times = times[edge:-edge]
    used = (len(times) - 1) / (times[-1] - times[0]) / arguments.rate
    print(f"{len(times)} requests at {arguments.rate:g} a second; {100 * used:.1f} % of the slots were used\n")
    print("| the bucket fills at | must forgive: median | 99 % | most |")
    print("|---|---|---|---|")
    for faster in FASTER:
        found = missing(times, faster * arguments.rate)
        cells = [f"{found[int(part * (len(found) - 1))]:.1f}" for part in (0.5, 0.99, 1.0)]
        print(f"| {faster:.3f} of the pace | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
