"""CPU a record and records a second of oathbulk, on PostgreSQL and on SQLite, of the same job in other hands, and of
other versions of oathbulk: in turn within one run, at a simulator without limits.

    python tests/benchmarks/side_by_side.py [--records N] [--rounds N] [--only NAME,…] [FOLDER[@THREADS] …]

Each folder holds a version, as `git worktree add FOLDER COMMIT` leaves it; all run on this one's packages. Its workers
have so many threads, or as many as they come to by themselves. Ratios are to the first row, round by round.

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
from pathlib import Path

from contenders import CONTENDERS, Contender, Ours, Run
from rig import Rig, end_in_good_order, grown, told

from worker.simulator.shipment import make_shipment

TIMEOUT = 180
TITLES = {"ours": ("**oathbulk**", "none"), "sqlite": ("oathbulk on SQLite", "none")} | {
    contender.name: (contender.title, contender.gives_up) for contender in CONTENDERS
}


# CPU in milliseconds a record, records a second, and the part of the devices that became active, each by its name.
Figures = dict[str, float]


def run_ours(records: int, *, on_postgres: bool = True, version: str = "") -> Figures:
    with Rig(make_shipment(records), on_postgres=on_postgres) as rig:
        rig.simulate()
        place, _, threads = version.partition("@")
        rig.variables |= {"PYTHONPATH": str(Path(place).resolve())} if place else {}
        rig.variables |= {"OATHBULK_CONCURRENCY": threads} if threads else {}
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
    print("| | records/s | CPU, ms a record | of first | database | Valkey | simulator | active | gives up promises |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = next(iter(results.values()))
    for name, rounds in results.items():
        title, promises = TITLES.get(name, (name, "none"))
        ratios = [mine["cpu"] / other["cpu"] for mine, other in zip(rounds, first, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        own, *apart = (f"{median(rounds, part):.2f}" for part in ("cpu", "postgres", "valkey", "simulator"))
        costs = " | ".join([own, ratio, *apart])
        active = f"{100 * median(rounds, 'active'):.1f} %"
        print(f"| {title} | {median(rounds, 'pace'):.0f} | {costs} | {active} | {promises} |")


def median(rounds: Sequence[Figures], name: str) -> float:
    return statistics.median(figures[name] for figures in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TITLES), help=f"of: {', '.join(TITLES)}")
    parser.add_argument("versions", nargs="*", metavar="FOLDER[@THREADS]")
    arguments = parser.parse_args()
    end_in_good_order()
    wanted = [name for name in arguments.only.split(",") if name]
    if unknown := set(wanted) - set(TITLES):
        parser.error(f"unknown: {', '.join(unknown)}")
    jobs: dict[str, Callable[[int], Figures]] = {
        "ours": run_ours,
        "sqlite": partial(run_ours, on_postgres=False),
    } | {contender.name: partial(run_contender, contender) for contender in CONTENDERS}
    jobs |= {version: partial(run_ours, version=version) for version in arguments.versions}
    results: dict[str, list[Figures]] = {name: [] for name in jobs if name in (*wanted, *arguments.versions)}
    for number in range(arguments.rounds):
        for name, rounds in results.items():
            with told(f"round {number + 1}, {name}"):
                rounds.append(jobs[name](arguments.records))
    print(f"{arguments.records} records, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print_table(results)


if __name__ == "__main__":
    main()
