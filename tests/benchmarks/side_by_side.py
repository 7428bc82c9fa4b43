"""CPU a record and records a second of oathbulk, on PostgreSQL and on SQLite, of the same job in other hands, and of
other versions of oathbulk: in turn within one run, at a simulator without limits.

    python tests/benchmarks/side_by_side.py [--records N] [--rounds N] [--only NAME,…] [FOLDER[@THREADS] …]

All are started first and stay; then each in turn works on a batch of so many records, and so on for so many rounds,
while the others wait. A round is a few seconds, so that whatever else the machine does meets all of them. Each folder
holds a version, as `git worktree add FOLDER COMMIT` leaves it; all run on this one's packages. Its workers have so many
threads, or as many as they come to by themselves. Ratios are to the first row, round by round; in brackets lies half of
them.

CPU is that of all of a contender's own processes, without their start; database, Valkey and simulator stand apart. Of
oathbulk it is worker and beat, events on; `load` is not in it. Records a second go from the first call that the
simulator saw in a round to the last.

The others have 8 threads, or jobs at once, each; PEER_CONCURRENCY=64 in the environment gives them as many as oathbulk
comes to here.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from contenders import CONTENDERS, Contender, Ours, Run
from rig import Rig, end_in_good_order, grown, told

from worker.simulator.shipment import make_shipment, write_csv

TIMEOUT = 180
TITLES = {"ours": ("**oathbulk**", "none"), "sqlite": ("oathbulk on SQLite", "none")} | {
    contender.name: (contender.title, contender.gives_up) for contender in CONTENDERS
}


# CPU in milliseconds a record, records a second, and the part of the devices that became active, each by its name.
Figures = dict[str, float]
# Works on this many records more, and tells what they cost.
Work = Callable[[int], Figures]


@contextmanager
def start_ours(total: int, *, on_postgres: bool = True, version: str = "") -> Iterator[Work]:
    with Rig(make_shipment(total), on_postgres=on_postgres) as rig:
        rig.simulate()
        place, _, threads = version.partition("@")
        rig.variables |= {"PYTHONPATH": str(Path(place).resolve())} if place else {}
        rig.variables |= {"OATHBULK_CONCURRENCY": threads} if threads else {}
        ours, slices = Ours(rig), Slices(rig)
        ours.start(workers=1)

        def work(records: int) -> Figures:
            part = slices.begin(records)
            ours.load(part)
            ours.follow(TIMEOUT, slices.rows)
            used = slices.end()
            return slices.figures(records, sum(used[name] for name in ours.names), used)

        yield work


@contextmanager
def start_contender(contender: Contender, total: int) -> Iterator[Work]:
    with Rig(make_shipment(total)) as rig:
        rig.simulate()
        run, slices = Run(rig, contender), Slices(rig)
        run.start()
        start_cost = statistics.median(run.start_cost() for _ in range(3))

        def work(records: int) -> Figures:
            part = slices.begin(records)
            spent = run.work(TIMEOUT, part, slices.rows) - start_cost
            used = slices.end()
            return slices.figures(records, spent + used.get("worker0", 0.0), used)

        yield work


class Slices:
    """A rig's shipment, worked on part by part."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        # How many of the shipment's rows were handed out.
        self.rows = 0
        self._before: dict[str, float] = {}

    def begin(self, records: int) -> Path:
        """Write the next part of the shipment to a file, and look at the processes' CPU."""
        rows = self._rig.shipment.rows[self.rows : self.rows + records]
        self.rows += records
        path = self._rig.directory / f"until-{self.rows}.csv"
        lines = ([row.serial, row.otp1, row.otp2 or "", row.user_id, row.device_id] for row in rows)
        write_csv(path, [["serial", "otp1", "otp2", "user_id", "device_id"], *lines])
        self._rig.clear_counts()
        self._before = self._rig.cpu()
        return path

    def end(self) -> dict[str, float]:
        """Seconds of CPU since the part began, by process and server."""
        return grown(self._before, self._rig.cpu())

    def figures(self, records: int, own: float, used: dict[str, float]) -> Figures:
        apart = {name: 1000 * used.get(name, 0.0) / records for name in ("postgres", "valkey", "simulator")}
        made = {"pace": records / self._rig.span(), "active": self._rig.activated() / self.rows}
        return apart | made | {"cpu": 1000 * own / records}


def print_table(results: dict[str, list[Figures]]) -> None:
    print("| | records/s | CPU, ms a record | of first | database | Valkey | simulator | active | gives up promises |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = next(iter(results.values()))
    for name, rounds in results.items():
        title, promises = TITLES.get(name, (name, "none"))
        ratios = [mine["cpu"] / other["cpu"] for mine, other in zip(rounds, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, method="inclusive")
        own, *apart = (f"{median(rounds, part):.2f}" for part in ("cpu", "postgres", "valkey", "simulator"))
        costs = " | ".join([own, f"{middle:.2f} ({low:.2f} to {high:.2f})", *apart])
        active = f"{100 * median(rounds, 'active'):.1f} %"
        print(f"| {title} | {median(rounds, 'pace'):.0f} | {costs} | {active} | {promises} |")


def median(rounds: Sequence[Figures], name: str) -> float:
    return statistics.median(figures[name] for figures in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=500, help="of each round")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", default=",".join(TITLES), help=f"of: {', '.join(TITLES)}")
    parser.add_argument("versions", nargs="*", metavar="FOLDER[@THREADS]")
    arguments = parser.parse_args()
    end_in_good_order()
    wanted = [name for name in arguments.only.split(",") if name]
    if unknown := set(wanted) - set(TITLES):
        parser.error(f"unknown: {', '.join(unknown)}")
    starts = {
        "ours": start_ours,
        "sqlite": partial(start_ours, on_postgres=False),
    } | {contender.name: partial(start_contender, contender) for contender in CONTENDERS}
    starts |= {version: partial(start_ours, version=version) for version in arguments.versions}
    # The first round is not counted: code is read, connections are opened, and the pace is found in it.
    rounds = 1 + arguments.rounds
    with ExitStack() as running:
        works: dict[str, Work] = {}
        for name in (*wanted, *arguments.versions):
            with told(f"start {name}"):
                works[name] = running.enter_context(starts[name](rounds * arguments.records))
        results: dict[str, list[Figures]] = {name: [] for name in works}
        for number in range(rounds):
            with told(f"round {number}"):
                for name, work in works.items():
                    results[name].append(work(arguments.records))
    print(f"{arguments.records} records a round, a fifth with two OTPs; medians of {arguments.rounds}\n")
    print_table({name: figures[1:] for name, figures in results.items()})


if __name__ == "__main__":
    main()
