"""Records a second and CPU a record, end to end, at a simulator without limits: PostgreSQL and embedded (SQLite), one
and two worker processes, in turn within one run.

    python tests/benchmarks/end_to_end.py [--records N] [--rounds N]

One worker has a processor of its own, and all else the others; two have all of them. CPU is what the kernel accounts to
each process while the records are activated; `ours` is workers and beat, without their start.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field

from ours import Ours
from rig import Rig, end_in_good_order, grown, told

from worker.simulator.shipment import make_shipment

TIMEOUT = 600


@dataclass
class Round:
    records: int
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def pace(self) -> float:
        return self.records / self.seconds

    def milliseconds(self, *names: str) -> float:
        return 1000 * sum(self.cpu[name] for name in names) / self.records


def run_round(records: int, workers: int, *, on_postgres: bool) -> Round:
    with Rig(make_shipment(records), on_postgres=on_postgres) as rig:
        rig.simulate()
        ours = Ours(rig)
        ours.start(workers)
        if workers == 1:
            rig.set_apart(ours.names[0])
        before = rig.cpu()
        ours.load()
        seconds = ours.follow(TIMEOUT)
        result = Round(records, seconds, grown(before, rig.cpu()))
        result.cpu["ours"] = sum(result.cpu[name] for name in ours.names)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    end_in_good_order()
    variants = [(on_postgres, workers) for on_postgres in (True, False) for workers in (1, 2)]
    rounds: dict[tuple[bool, int], list[Round]] = {variant: [] for variant in variants}
    for number in range(arguments.rounds):
        for on_postgres, workers in variants:
            with told(f"round {number + 1}, {'PostgreSQL' if on_postgres else 'embedded'}, {workers} worker(s)"):
                result = run_round(arguments.records, workers, on_postgres=on_postgres)
                rounds[on_postgres, workers].append(result)
    print(f"{arguments.records} records, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print("| database | workers | records/s | CPU ms a record: ours | beat | database | Valkey | simulator |")
    print("|---|---|---|---|---|---|---|---|")
    for (on_postgres, workers), results in rounds.items():
        row = [f"{statistics.median(result.pace for result in results):.0f}"]
        for name in ("ours", "beat", "postgres", "valkey", "simulator"):
            known = [result.milliseconds(name) for result in results if name in result.cpu]
            row.append(f"{statistics.median(known):.2f}" if known else "in ours")
        print(f"| {'PostgreSQL' if on_postgres else 'SQLite'} | {workers} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
