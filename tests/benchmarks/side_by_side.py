"""CPU a record and records a second of oathbulk, on PostgreSQL and on SQLite, and of the same job in other hands: in
turn within one run, at a simulator without limits.

    python tests/benchmarks/side_by_side.py [--records N] [--rounds N] [--only NAME,…]

CPU is that of all of a contender's own processes, without their start; database, Valkey and simulator stand apart. Of
oathbulk it is worker and beat, events on; `load` is not in it. Records a second go from the first call that the
simulator saw to the last.

The others have 8 threads, or jobs at once, each; PEER_CONCURRENCY=64 in the environment gives them as many as oathbulk
comes to here.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial

from contenders import CONTENDERS, Contender, Ours, Run
from rig import Rig, end_in_good_order, grown, told

from worker.simulator.shipment import make_shipment

TIMEOUT = 180
TITLES = {"ours": ("**oathbulk**", "none"), "sqlite": ("oathbulk on SQLite", "none")} | {
    contender.name: (contender.title, contender.gives_up) for contender in CONTENDERS
}


# CPU in milliseconds a record, records a second, and the part of the devices that became active, each by its name.
Figures = dict[str, float]


def run_ours(records: int, *, on_postgres: bool) -> Figures:
    with Rig(make_shipment(records), on_postgres=on_postgres) as rig:
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
    apart = {name: 1000 * used.get(name, 0.0) / records for name in ("postgres", "valkey", "simulator")}
    return apart | {"cpu": 1000 * own / records, "pace": records / rig.span(), "active": rig.activated() / records}


def print_table(results: dict[str, list[Figures]]) -> None:
    print("| | records/s | CPU ms a record | database | Valkey | simulator | active | gives up promises |")
    print("|---|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        title, promises = TITLES[name]
        costs = " | ".join(f"{median(rounds, part):.2f}" for part in ("cpu", "postgres", "valkey", "simulator"))
        active = f"{100 * median(rounds, 'active'):.1f} %"
        print(f"| {title} | {median(rounds, 'pace'):.0f} | {costs} | {active} | {promises} |")


def median(rounds: Sequence[Figures], name: str) -> float:
    return statistics.median(figures[name] for figures in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TITLES), help=f"of: {', '.join(TITLES)}")
    arguments = parser.parse_args()
    end_in_good_order()
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - set(TITLES):
        parser.error(f"unknown: {', '.join(unknown)}")
    jobs: dict[str, Callable[[int], Figures]] = {
        "ours": partial(run_ours, on_postgres=True),
        "sqlite": partial(run_ours, on_postgres=False),
    } | {contender.name: partial(run_contender, contender) for contender in CONTENDERS}
    results: dict[str, list[Figures]] = {name: [] for name in jobs if name in wanted}
    for number in range(arguments.rounds):
        for name, rounds in results.items():
            with told(f"round {number + 1}, {name}"):
                rounds.append(jobs[name](arguments.records))
    print(f"{arguments.records} records, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print_table(results)


if __name__ == "__main__":
    main()
