"""How much of a rate limit is used, and at how many 429s, while the simulator enforces it: oathbulk with one, two and
four worker processes, the thread pool, and Celery as in its tutorial, in turn within one run.

    python tests/benchmarks/limits.py [--records N | --seconds N] [--limits 50,200,500]
        [--shapes bucket,window,changing] [--workers 1,2,4] [--only ours,thread_pool,celery_tutorial,celery_unpaced]
        [--rate N] [--latency MS] [--retry-after SECONDS] [--rounds N]

Everything counted is the simulator's own tally. `steady` leaves out the first and the last tenth of the time. The
shapes: a token bucket of 10 requests, or bucket-0.5, of what the limit is in half a second; a count that starts anew
each second, or window-60, each minute; a bucket whose limit falls to a half after a third of the time that the job
takes at best, and rises to one and a half after two. `window` and `changing` are measured at the middle limit only.
With --seconds there are as many records as take so long at best. oathbulk knows nothing and begins with its default
unless --rate says otherwise; Celery gets the limit as its `rate_limit`. With --latency PingOne takes so many
milliseconds for an answer, and with --retry-after each refusal asks for so many seconds.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contenders import CONTENDERS, Ours, Run
from rig import Rig, end_in_good_order, told

from worker.simulator.shipment import make_shipment

CALLS = 1.2
PEERS = {contender.name: contender for contender in CONTENDERS}
TUTORIAL = PEERS["celery_tutorial"]
# The same without `rate_limit`, so that it is not judged by that alone.
UNPACED = replace(TUTORIAL, name="celery_unpaced", title="Celery, without rate_limit")
OTHERS = {contender.name: contender for contender in (PEERS["thread_pool"], TUTORIAL, UNPACED)}


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


def measure(case: Case, name: str, workers: int, rate: float | None) -> list[str]:
    """The row of the table."""
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
        seconds = fill(rig.ask("tally")["seconds"])
        tenth = max(1, len(seconds) // 10)
        # Of the first and the last second nobody knows how long they were: as long as what was used in them.
        for edge in (seconds[0], seconds[-1]):
            edge["rate"] = min(edge["rate"], edge["let_through"])
        used, limited = share(seconds)
        figures = (used, share(seconds[tenth:-tenth])[0], limited, rig.activated() / case.records)
        title = f"oathbulk, {workers} worker(s)" if name == "ours" else OTHERS[name].title
        percent = [f"{100 * figure:.1f} %" for figure in figures]
        return [case.shape, str(case.limit), title, str(len(seconds)), *percent]


def fill(told: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The control API's tally, second by second, those without a request too: they had the rate of the one before."""
    seconds: list[dict[str, Any]] = []
    for second in told:
        while seconds and second["at"] > seconds[-1]["at"] + 1:
            seconds.append(seconds[-1] | {"at": seconds[-1]["at"] + 1, "let_through": 0, "limited": 0})
        seconds.append(second)
    return seconds


def share(seconds: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """What was used of what the limit permitted, and what was refused of all requests that came."""
    permitted, let_through, limited = (sum(each[of] for each in seconds) for of in ("rate", "let_through", "limited"))
    return let_through / permitted if permitted else 0.0, limited / ((let_through + limited) or 1)


def run_ours(rig: Rig, case: Case, workers: int, rate: float | None) -> None:
    # The tenant is known: what is learned of it once, a few records at a time, is no matter of its limit.
    rig.variables |= {"PINGONE_RESYNC_ON_FIRST_CALL": "false", "_OATHBULK_TUNING__first_records": "0"}
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
    arguments = parser.parse_args()
    end_in_good_order()
    if unknown := set(arguments.only.split(",")) - {"ours", *OTHERS}:
        parser.error(f"unknown: {', '.join(unknown)}")
    print("A fifth of the records needs two OTPs.\n")
    print("| shape | limit/s | | seconds | used | used, steady | 429s of all | active |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for case, name, workers in plan(arguments):
        with told(f"{case.shape} {case.limit}/s, {name}, {workers} worker(s)"):
            cells = measure(case, name, workers, arguments.rate)
        print(f"| {' | '.join(cells)} |", flush=True)


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
