"""How much of a limit the search for it uses, at how many 429s, against limits of every kind, in virtual time.

    PYTHONPATH=tests python tests/benchmarks/pace_matrix.py [--quick] [--group TEXT] [--worst N]

The fleet is that of tests/support/fleets/paced_fleet.py: it drives the product's pure functions as processes do with
Redis between them. *Used* is what was let through of what the limit permitted, a burst not counted, and 100 % at the
most; *steady* leaves out the first and the last tenth of the time. --quick takes every fifth cell.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import fmean

from support.fleets.paced_fleet import (
    LATE,
    UNBOUNDED,
    AtOnce,
    Bucket,
    Count,
    Limit,
    PacedFleet,
    RateAt,
    Searching,
    Shared,
    SlidingCount,
    changing,
)

# Requests a second that the fleet may make at most, as PINGONE_RATE_MAX says: about what two processes can do, and more
# than a hundred find permitted.
HIGHEST = 1000.0
HIGHEST_OF_MANY = 4000.0
# Below this part of the limit a cell is named.
NAMED_BELOW = 0.8


# Of limits, rates are in requests a second, times in seconds; a burst is given by the seconds of the limit that it is
# worth, or by its number.
# What a worker that has just started sends in its first seconds: its threads, connections and caches begin one by one.
SLOW_START = {0.0: 9.0, 1.0: 36.0, 2.0: 69.0, 3.0: math.inf}
# No bucket forgives less: requests that were sent evenly arrive in twos and threes.
LEAST_BURST = 4.0


@dataclass(frozen=True)
class Cell:
    """A fleet, the limit that it meets, and for how long it works."""

    group: str
    name: str
    make_limit: Callable[[], Limit]
    # What the limit asks for; None: until there is room.
    retry_after: float | None = 1.0
    seconds: float = 150.0
    latency: float = 0.06
    processes: int = 2
    ahead: float = 0.1
    refusal_latency: float | None = None
    # Requests a second that the fleet can make at most, at a time.
    capacity: RateAt = UNBOUNDED
    # Seconds after they were due until which slots are used.
    late: float = LATE
    # When the limit changes.
    changes_at: float | None = None
    highest: float = HIGHEST


def make_cells() -> list[Cell]:
    return [
        *buckets(),
        *counts(),
        *latencies(),
        *changes(),
        *other_clients(),
        *fleets(),
        *lengths(),
        *real_fleets(),
        *large_fleets(),
        Cell("one second's burst at 120/s, 2 s", "", lambda: Bucket(120, 120), retry_after=2.0),
    ]


def buckets() -> Iterator[Cell]:
    for rate in (20, 50, 120, 200, 500):
        bursts = {f"{seconds:g} s": seconds * rate for seconds in (0.05, 0.2, 0.5, 1, 3, 10)}
        for (name, burst), asked in product((bursts | {"5": 5, "10": 10, "20": 20}).items(), (1, 2, 5, 30)):
            limit = make_bucket(rate, burst)
            yield Cell(f"bucket, Retry-After {asked} s", f"{rate}/s, burst {name}", limit, asked)


def counts() -> Iterator[Cell]:
    for rate, phase, asked in product((20, 50, 120, 200, 500), (0.0, 0.3, 0.8), (1, 2)):
        yield Cell("count per 1 s", f"{rate}/s, phase {phase}, {asked} s", partial(Count, rate, 1.0, phase), asked)
    for window, rate, phase, asked in product((10.0, 60.0), (20, 120, 200), (0.1, 0.6), (1, 2, 5, None)):
        name = f"{rate}/s, phase {phase}, {asked or 'window'} s"
        yield Cell(f"count per {window:g} s", name, partial(Count, rate, window, phase), asked)
    for window, rate, asked in product((1.0, 10.0, 60.0), (20, 120, 200), (1, 5, None)):
        name = f"{rate}/s, {asked or 'until there is room'}"
        yield Cell(f"sliding count of {window:g} s", name, partial(SlidingCount, rate, window), asked)


def latencies() -> Iterator[Cell]:
    for latency, rate, burst, asked in product((0.02, 0.2, 0.5, 1.0), (50, 200), (0.1, 1.0), (1, 2)):
        name = f"{rate}/s, burst {burst:g} s, {asked} s"
        limit = make_bucket(rate, burst * rate)
        yield Cell(f"answers of {latency:g} s", name, limit, asked, latency=latency)


def changes() -> Iterator[Cell]:
    for factor, rate, burst, asked, at in product((0.5, 1.5, 2, 3), (50, 200), (0.1, 1.0), (1, 2), (40, 60)):
        name = f"{rate}/s, burst {burst:g} s, {asked} s, after {at} s"
        limit = make_bucket(rate, burst * rate, {at: factor * rate})
        yield Cell(f"limit times {factor:g}", name, limit, asked, changes_at=at)


def other_clients() -> Iterator[Cell]:
    for rate, burst, asked in product((50, 200), (0.1, 1.0), (1, 2)):
        name = f"{rate}/s, burst {burst:g} s, {asked} s"
        bucket = make_bucket(rate, burst * rate)
        yield Cell("a second client", f"{name}, a third always", make_shared(bucket, {0: rate / 3}), asked)
        part_time = make_shared(bucket, {50: rate / 2, 100: 0.0})
        yield Cell("a second client", f"{name}, half for 50 s", part_time, asked)
        by_chance = make_shared(bucket, {0: rate / 3}, is_random=True)
        yield Cell("a second client", f"{name}, a third by chance", by_chance, asked)


def fleets() -> Iterator[Cell]:
    for processes, ahead, refusal, burst in product((1, 4), (0.0, 0.5), (None, 0.01), (0.1, 1.0)):
        name = f"{processes} processes, {ahead:g} s ahead, 429s in {refusal or 'as long'}, burst {burst:g} s"
        limit = make_bucket(120, burst * 120)
        yield Cell("slots ahead", name, limit, latency=0.2, processes=processes, ahead=ahead, refusal_latency=refusal)
    for most, latency in product((10, 50), (0.1, 0.5)):
        limit = partial(AtOnce, most, latency)
        yield Cell("so many at once", f"{most}, answers of {latency:g} s", limit, latency=latency)


def lengths() -> Iterator[Cell]:
    for rate, burst, asked in product((50, 200), (0.05, 0.5, 1.0, 5.0), (1, 2)):
        name = f"{rate}/s, burst {burst:g} s, {asked} s"
        yield Cell("60 s", name, make_bucket(rate, burst * rate), asked, seconds=60.0)
    for rate, burst, asked in product((20, 120), (0.1, 1.0, 5.0), (1, 5)):
        name = f"{rate}/s, burst {burst:g} s, {asked} s"
        yield Cell("30 minutes", name, make_bucket(rate, burst * rate), asked, seconds=1800.0)


def real_fleets() -> Iterator[Cell]:
    """What a real fleet does that one in virtual time does not by itself, in the 70 seconds of a small shipment."""
    for rate, burst, processes in product((50, 120, 200, 300), (0.2, 1.0, 3.0), (1, 2)):
        limit = make_bucket(rate, burst * rate)
        cell = Cell("", f"{rate}/s, burst {burst:g} s, {processes} workers", limit, 2.0, 70.0, processes=processes)
        yield replace(cell, group="a slow start", capacity=make_capacity(rate, starts_slowly=True))
        yield replace(cell, group="dips", capacity=make_capacity(rate, dips=True))
        yield replace(cell, group="slots 50 ms late", late=0.05)
        yield replace(cell, group="all three", capacity=make_capacity(rate, starts_slowly=True, dips=True), late=0.05)


def large_fleets() -> Iterator[Cell]:
    for rate, burst, latency, processes in product((500, 2000), (0.1, 1.0), (0.06, 0.5), (2, 100)):
        name = f"{rate}/s, burst {burst:g} s, answers of {latency:g} s"
        limit = make_bucket(rate, burst * rate)
        cell = Cell(f"{processes} workers", name, limit, 2.0, latency=latency, processes=processes)
        yield replace(cell, highest=HIGHEST_OF_MANY)


def make_capacity(rate: float, *, starts_slowly: bool = False, dips: bool = False) -> RateAt:
    """What a fleet can make: less while it starts, and half of the limit in half a second of seven, as while a disk
    writes."""
    start = changing(math.inf, SLOW_START if starts_slowly else {})
    return lambda now: min(start(now), rate / 2 if dips and now % 7 > 6.5 else math.inf)


def make_bucket(rate: float, burst: float, rate_changes: dict[float, float] | None = None) -> Callable[[], Limit]:
    return partial(Bucket, changing(rate, rate_changes or {}), max(burst, LEAST_BURST))


def make_shared(
    make: Callable[[], Limit], others: dict[float, float], *, is_random: bool = False
) -> Callable[[], Limit]:
    return lambda: Shared(make(), changing(0.0, others), is_random=is_random)


def choose_few(cells: list[Cell]) -> list[Cell]:
    """Choose every fifth cell, and at least one of each group; half an hour is made ten minutes."""
    few = [cell for group in groups_of(cells) for cell in [cell for cell in cells if cell.group == group][::5]]
    return [replace(cell, seconds=min(cell.seconds, 600.0)) for cell in few]


def groups_of(cells: list[Cell]) -> list[str]:
    """Return the names of the groups, in the order of their first cells."""
    return list(dict.fromkeys(cell.group for cell in cells))


@dataclass(frozen=True)
class Result:
    group: str
    name: str
    whole: float
    steady: float
    # The part of all requests that was refused.
    refused: float
    # Refusals that were learned from.
    met: int
    # Seconds after the limit changed until 95 % of it was used; None where it does not change, or never.
    back_after: float | None


def measure(cell: Cell) -> Result:
    """Run a fleet against one limit."""
    fleet = PacedFleet(
        cell.make_limit(),
        Searching(highest=cell.highest),
        latency=cell.latency,
        refusal_latency=cell.refusal_latency,
        retry_after=cell.retry_after,
        ahead=cell.ahead,
        capacity=cell.capacity,
        late=cell.late,
        processes=cell.processes,
    ).run(until=cell.seconds)
    tenth = cell.seconds / 10
    shares = [min(fleet.used(*span), 1.0) for span in ((0, cell.seconds), (tenth, cell.seconds - tenth))]
    return Result(cell.group, cell.name, *shares, fleet.refused_share, len(fleet.refusals), find_return(fleet, cell))


def find_return(fleet: PacedFleet, cell: Cell) -> float | None:
    """Find after how many seconds from the change of the limit 95 % of it are used for five seconds."""
    if cell.changes_at is None:
        return None
    seconds = range(int(cell.changes_at), int(cell.seconds) - 5)
    return next((at - cell.changes_at for at in seconds if fleet.used(at, at + 5) >= 0.95), None)


def print_groups(results: list[Result]) -> None:
    print("\n| group | cells | used and refused |\n|---|---|---|")
    for group in dict.fromkeys(result.group for result in results):
        of_group = [result for result in results if result.group == group]
        print(f"| {group} | {len(of_group)} | {describe(of_group)} |")


def describe(results: list[Result]) -> str:
    """Say how much was used, whole and steady, and how many were refused; the worst cell in brackets."""
    whole, steady, refused = (
        100 * fmean(getattr(result, name) for result in results) for name in ("whole", "steady", "refused")
    )
    lowest, highest = 100 * min(r.whole for r in results), 100 * max(r.refused for r in results)
    text = f"{whole:.1f} / {steady:.1f}, {refused:.2f} ({lowest:.0f}; {highest:.1f})"
    if any(result.back_after is not None for result in results):
        slowest = max(result.back_after if result.back_after is not None else 999 for result in results)
        text += f", back in {slowest:.0f} s"
    return text


def print_worst(results: list[Result], count: int) -> None:
    """Name the cells in which least is used."""
    print("\n| worst cells | whole | steady | refused | met |\n|---|---|---|---|---|")
    for r in sorted(results, key=lambda result: result.whole)[:count]:
        if r.whole < NAMED_BELOW:
            figures = f"{100 * r.whole:.1f} | {100 * r.steady:.1f} | {100 * r.refused:.2f} | {r.met}"
            print(f"| {r.group}: {r.name} | {figures} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="every fifth cell")
    parser.add_argument("--group", default="", help="groups whose names contain this")
    parser.add_argument("--worst", type=int, default=40, help="how many of the worst cells are named")
    arguments = parser.parse_args()
    cells = [cell for cell in make_cells() if arguments.group in cell.group]
    if arguments.quick:
        cells = choose_few(cells)
    results = [measure(cell) for cell in cells]
    print("whole / steady used, 429s in % of requests (lowest use; most refused)")
    print_groups(results)
    print_worst(results, arguments.worst)


if __name__ == "__main__":
    main()
