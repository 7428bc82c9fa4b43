"""CPU a record and records a second of oathbulk, of the same job in other hands, and of the floor (slices.py): what a
Celery task that does nothing, bare HTTP calls and the raw SQL cost together. In turn within one run, at a simulator
without limits.

    python tests/benchmarks/side_by_side.py [--records N] [--rounds N] [--only NAME,…] [--json FILE]

CPU is that of all of a contender's own processes, without their start; database, Valkey and simulator stand apart. Of
oathbulk it is worker and beat, events on; `load` is not in it, nor is the reading of the file in the floor. Records a
second go from the first call that the simulator saw to the last.

The others have 8 threads, or jobs at once, each; PEER_CONCURRENCY=64 in the environment gives them as many as oathbulk
comes to here.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contenders import CONTENDERS, Contender, Run
from ours import Ours
from rig import Rig, end_in_good_order, grown, told
from slices import Slice, measure, told_ratio

from worker.simulator.shipment import make_shipment

TIMEOUT = 180
FLOOR = "floor"
# Slices a round, and the records in each.
SLICES, SLICE = 16, 500


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU in milliseconds a record."""

    cpu: float
    postgres: float
    valkey: float
    simulator: float
    pace: float | None = None
    active: float = 1.0


def run_ours(records: int) -> Figures:
    with Rig(make_shipment(records)) as rig:
        rig.simulate()
        ours = Ours(rig)
        ours.start(workers=1)
        before = rig.cpu()
        ours.load()
        ours.follow(TIMEOUT)
        used = grown(before, rig.cpu())
        return figures(rig, sum(used[name] for name in ours.names), used)


def run_contender(contender: Contender, records: int) -> Figures:
    with Rig(make_shipment(records)) as rig:
        rig.simulate()
        run = Run(rig, contender)
        run.start()
        start_cost = run.start_cost()
        before = rig.cpu()
        spent = run.work(TIMEOUT) - start_cost
        used = grown(before, rig.cpu())
        return figures(rig, spent + used.get("worker0", 0.0), used)


def figures(rig: Rig, own: float, used: dict[str, float]) -> Figures:
    records = len(rig.shipment.rows)
    apart = {name: 1000 * used[name] / records for name in ("postgres", "valkey", "simulator")}
    pace = records / rig.span().seconds
    return Figures(1000 * own / records, **apart, pace=pace, active=rig.activated() / records)


def median(rounds: Sequence[Figures], name: str) -> float:
    return statistics.median(getattr(figures, name) or 0.0 for figures in rounds)


def print_table(results: dict[str, list[Figures]], slices: Sequence[Slice]) -> None:
    floor = statistics.median(each.floor for each in slices) if slices else None
    titles = {contender.name: (contender.title, contender.promises) for contender in CONTENDERS}
    titles["ours"] = ("**oathbulk**", "none")
    print(
        "| | records/s | CPU ms a record | of the floor | database | Valkey | simulator | active | gives up promises |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        title, promises = titles[name]
        own = median(rounds, "cpu")
        ratio = f"{own / floor:.2f}" if floor else ""
        apart = " | ".join(f"{median(rounds, server):.2f}" for server in ("postgres", "valkey", "simulator"))
        active = f"{100 * median(rounds, 'active'):.1f} %"
        print(f"| {title} | {median(rounds, 'pace'):.0f} | {own:.2f} | {ratio} | {apart} | {active} | {promises} |")
    if floor:
        print(f"| the floor | | {floor:.2f} | 1.00 | | | | | does no job |")
        print(f"\n{told_ratio(slices)}")


def main() -> None:
    names = ["ours", *(contender.name for contender in CONTENDERS), FLOOR]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(names), help=f"of: {', '.join(names)}")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    end_in_good_order()
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"unknown: {', '.join(unknown)}")
    jobs: dict[str, Callable[[], Figures]] = {"ours": lambda: run_ours(arguments.records)}
    for contender in CONTENDERS:
        jobs[contender.name] = lambda contender=contender: run_contender(contender, arguments.records)
    results: dict[str, list[Figures]] = {name: [] for name in jobs if name in wanted}
    slices: list[Slice] = []
    for number in range(arguments.rounds):
        for name in results:
            with told(f"round {number + 1}, {name}"):
                results[name].append(jobs[name]())
        if FLOOR in wanted:
            with told(f"round {number + 1}, {FLOOR}"):
                slices += measure(SLICE, SLICES)
    print(f"{arguments.records} records, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print_table(results, slices)
    if arguments.json:
        rounds = {name: [asdict(figures) for figures in rounds] for name, rounds in results.items()}
        told_all = {"records": arguments.records, "rounds": rounds, "slices": [asdict(each) for each in slices]}
        arguments.json.write_text(json.dumps(told_all))


if __name__ == "__main__":
    main()
