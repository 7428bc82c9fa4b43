"""How much of a rate limit is used, and at how many 429s, while the simulator enforces it: oathbulk with one, two and
four worker processes, the thread pool, and Celery as in its tutorial, in turn within one run.

    python tests/benchmarks/limits.py [--records N | --seconds N] [--limits 50,200,500]
        [--shapes bucket,window,changing] [--workers 1,2,4] [--only ours,thread_pool,celery_tutorial,celery_unpaced]
        [--rate N] [--latency MS] [--retry-after SECONDS] [--rounds N] [--plots FOLDER]

Everything counted is the simulator's own tally. `steady` leaves out the first and the last tenth of the time. The
shapes: a token bucket of 10 requests, or bucket-0.5, of what the limit is in half a second; a count that starts anew
each second, or window-60, each minute; a bucket whose limit falls to a half after a third of the time that the job
takes at best, and rises to one and a half after two. `window` and `changing` are measured at the middle limit only.
With --seconds there are as many records as take so long at best. oathbulk knows nothing and begins with its default
unless --rate says otherwise; Celery gets the limit as its `rate_limit`. With --latency PingOne takes so many
milliseconds for an answer, and with --retry-after each refusal asks for so many seconds. --plots writes a picture of
each limit into a folder, as SVG: limit-bucket-200.svg and so on.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from contenders import CONTENDERS, Run
from ours import Ours
from rig import Rig, end_in_good_order, told

from worker.simulator.shipment import make_shipment

CALLS = 1.2
PEERS = {contender.name: contender for contender in CONTENDERS}
TUTORIAL = PEERS["celery_tutorial"]
# The same without `rate_limit`, so that it is not judged by that alone.
UNPACED = replace(TUTORIAL, name="celery_unpaced", title="Celery, without rate_limit")
OTHERS = {contender.name: contender for contender in (PEERS["thread_pool"], TUTORIAL, UNPACED)}


@dataclass(frozen=True, slots=True)
class Share:
    """`used` of what the limit permitted, `limited` of all requests that came."""

    used: float
    limited: float


@dataclass(frozen=True, slots=True)
class Second:
    permitted: float
    let_through: int
    limited: int


class Tally:
    """Second by second, those without a request too."""

    def __init__(self, seconds: Sequence[Second]) -> None:
        self._seconds = seconds

    @classmethod
    def read(cls, told: Sequence[dict[str, Any]]) -> Self:
        """From the control API, which leaves out seconds without a request: they had the rate of the one before."""
        seconds: list[Second] = []
        for second in told:
            while seconds and second["at"] > told[0]["at"] + len(seconds):
                seconds.append(Second(seconds[-1].permitted, 0, 0))
            seconds.append(Second(second["rate"], second["let_through"], second["limited"]))
        return cls(seconds)

    def whole(self) -> Share:
        """Of the first and the last second nobody knows how long they were: as long as what was used in them."""
        edges = {0, len(self._seconds) - 1}
        permitted = sum(
            min(second.permitted, second.let_through) if number in edges else second.permitted
            for number, second in enumerate(self._seconds)
        )
        return self._share(self._seconds, permitted)

    def steady(self) -> Share:
        """Without the first and the last tenth of the time."""
        tenth = max(1, len(self._seconds) // 10)
        middle = self._seconds[tenth:-tenth]
        return self._share(middle, sum(second.permitted for second in middle))

    def as_series(self) -> list[tuple[float, int, int]]:
        """(permitted, let through, limited), a second each."""
        return [(second.permitted, second.let_through, second.limited) for second in self._seconds]

    @staticmethod
    def _share(seconds: Sequence[Second], permitted: float) -> Share:
        let_through = sum(second.let_through for second in seconds)
        limited = sum(second.limited for second in seconds)
        return Share(let_through / permitted if permitted else 0.0, limited / ((let_through + limited) or 1))


@dataclass(frozen=True, slots=True)
class Case:
    """A limit of the simulator, in requests a second, and the job that meets it."""

    shape: str
    limit: int
    records: int
    latency: float = 0.0
    # Seconds that a refusal asks for; None: until there is room.
    retry_after: int | None = None

    @property
    def at_best(self) -> float:
        """Seconds that the job takes if nothing is left unused."""
        return self.records * CALLS / self.limit

    @property
    def settings(self) -> dict[str, Any]:
        """The simulator's."""
        rate = {"rate": self.limit, "latency": self.latency / 1000}
        if self.retry_after is not None:
            rate["retry_after"] = self.retry_after
        third = self.at_best / 3
        match self.shape.split("-"):
            case ["bucket", seconds]:
                return rate | {"burst": max(1, round(self.limit * float(seconds)))}
            case ["window", *seconds]:
                return rate | {"limit_window": float(seconds[0]) if seconds else 1}
            case ["changing"]:
                return rate | {"rate_changes": {round(third): self.limit / 2, round(2 * third): self.limit * 1.5}}
        return rate

    @property
    def timeout(self) -> float:
        return 2.5 * self.at_best + 60


@dataclass(frozen=True, slots=True)
class Result:
    shape: str
    limit: int
    name: str
    workers: int
    active: float
    whole: Share
    steady: Share
    seconds: list[tuple[float, int, int]]

    @property
    def title(self) -> str:
        return f"oathbulk, {self.workers} worker(s)" if self.name == "ours" else OTHERS[self.name].title


def measure(case: Case, name: str, workers: int, rate: float | None) -> Result:
    with Rig(make_shipment(case.records)) as rig:
        rig.simulate(**case.settings)
        try:
            if name == "ours":
                run_ours(rig, case, workers, rate)
            else:
                run_other(rig, case, name, workers)
        except TimeoutError:
            # What is not done by now is part of the result.
            print("(not finished)", end=" ", flush=True)
        tally = Tally.read(rig.ask("tally")["seconds"])
        active = rig.activated() / case.records
        return Result(case.shape, case.limit, name, workers, active, tally.whole(), tally.steady(), tally.as_series())


def run_ours(rig: Rig, case: Case, workers: int, rate: float | None) -> None:
    # The tenant is known: what is learnt of it once, a few records at a time, is no matter of its limit.
    rig.variables["PINGONE_RESYNC_ON_FIRST_CALL"] = "false"
    ours = Ours(rig, rate=rate)
    ours.start(workers)
    ours.load()
    ours.follow(case.timeout)


def run_other(rig: Rig, case: Case, name: str, workers: int) -> None:
    run = Run(rig, OTHERS[name])
    if name == TUTORIAL.name:
        rig.variables["RATE_LIMIT"] = f"{case.limit}/s"
    run.start(workers)
    run.work(case.timeout)


def print_row(result: Result) -> None:
    whole, steady = result.whole, result.steady
    figures = [f"{100 * share:.1f} %" for share in (whole.used, steady.used, whole.limited, result.active)]
    cells = [result.shape, str(result.limit), result.title, f"{len(result.seconds)}", *figures]
    print(f"| {' | '.join(cells)} |", flush=True)


def plot(results: Sequence[Result], folder: Path) -> None:
    """Draw a picture of each limit: a panel a contender, with requests let through and refused, second by second."""
    # Here, since nothing else needs it.
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    # Text as text, and the same file for the same figures.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "oathbulk", "font.size": 9}
    for shape, limit in dict.fromkeys((result.shape, result.limit) for result in results):
        shown = [result for result in results if (result.shape, result.limit) == (shape, limit)]
        figure, panels = plt.subplots(len(shown), 1, figsize=(7, 1.7 * len(shown)), sharex=True, squeeze=False)
        highest = 1.6 * max(permitted for result in shown for permitted, _, _ in result.seconds)
        for axes, result in zip(panels[:, 0], shown, strict=True):
            permitted, let_through, limited = zip(*result.seconds, strict=True)
            seconds = range(len(permitted))
            axes.stackplot(seconds, let_through, limited, colors=["#1f77b4", "#f2b8b5"], step="post")
            axes.step(seconds, permitted, where="post", color="black", linewidth=1)
            axes.set_title(result.title, loc="left", fontsize=9)
            axes.set_ylim(0, highest)
            axes.set_ylabel("requests/s")
        panels[-1, 0].set_xlabel("seconds; blue: answered, red: refused with 429, line: the limit")
        figure.tight_layout()
        file = folder / f"limit-{shape}-{limit}.svg"
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
        # matplotlib leaves spaces at the ends of lines.
        file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines()))


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, help="instead of --records: what each job takes at best")
    parser.add_argument("--limits", type=numbers, default=[50, 200, 500])
    parser.add_argument("--shapes", default="bucket,window,changing")
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4])
    parser.add_argument("--only", default=",".join(["ours", *OTHERS]))
    parser.add_argument("--rate", type=float, help="what oathbulk is told instead of the limit")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before an answer")
    parser.add_argument("--retry-after", type=int, help="seconds that a refusal asks for; default: until there is room")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    end_in_good_order()
    if unknown := set(arguments.only.split(",")) - {"ours", *OTHERS}:
        parser.error(f"unknown: {', '.join(unknown)}")
    print("A fifth of the records needs two OTPs.\n")
    print("| shape | limit/s | | seconds | used | used, steady | 429s of all | active |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for case, name, workers in plan(arguments):
        with told(f"{case.shape} {case.limit}/s, {name}, {workers} worker(s)"):
            results.append(measure(case, name, workers, arguments.rate))
        print_row(results[-1])
    if arguments.plots:
        plot(results, arguments.plots)


def plan(arguments: argparse.Namespace) -> Iterator[tuple[Case, str, int]]:
    middle = sorted(arguments.limits)[len(arguments.limits) // 2]
    for shape in arguments.shapes.split(","):
        for limit in [middle] if shape in ("window", "changing") else arguments.limits:
            records = round(arguments.seconds * limit / CALLS) if arguments.seconds else arguments.records
            for name in arguments.only.split(","):
                for workers in arguments.workers if name == "ours" else [1]:
                    for _ in range(arguments.rounds):
                        yield Case(shape, limit, records, arguments.latency, arguments.retry_after), name, workers


if __name__ == "__main__":
    main()
