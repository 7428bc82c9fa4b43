"""The limits that the pace is measured against in virtual time, by group. Rates are in requests a second, times in
seconds; a burst is given by the seconds of the limit that it is worth, or by its number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from support.fleets.paced_fleet import LATE, UNBOUNDED
from support.fleets.virtual_limits import (
    AtOnce,
    Bucket,
    Count,
    Limit,
    RateAt,
    Shared,
    SlidingCount,
    changing,
)

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
        yield Cell("count per 1 s", f"{rate}/s, phase {phase}, {asked} s", make_count(rate, 1.0, phase), asked)
    for window, rate, phase, asked in product((10.0, 60.0), (20, 120, 200), (0.1, 0.6), (1, 2, 5, None)):
        name = f"{rate}/s, phase {phase}, {asked or 'window'} s"
        yield Cell(f"count per {window:g} s", name, make_count(rate, window, phase), asked)
    for window, rate, asked in product((1.0, 10.0, 60.0), (20, 120, 200), (1, 5, None)):
        name = f"{rate}/s, {asked or 'until there is room'}"
        yield Cell(f"sliding count of {window:g} s", name, make_sliding(rate, window), asked)


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
        limit = make_at_once(most, latency)
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


def make_capacity(rate: float, *, starts_slowly: bool = False, dips: bool = False) -> RateAt:
    """What a fleet can make: less while it starts, and half of the limit in half a second of seven, as while a disk
    writes."""
    start = changing(math.inf, SLOW_START if starts_slowly else {})
    return lambda now: min(start(now), rate / 2 if dips and now % 7 > 6.5 else math.inf)


def make_bucket(rate: float, burst: float, rate_changes: dict[float, float] | None = None) -> Callable[[], Limit]:
    return lambda: Bucket(changing(rate, rate_changes or {}), max(burst, LEAST_BURST))


def make_count(rate: float, window: float, phase: float) -> Callable[[], Limit]:
    return lambda: Count(rate, window, phase)


def make_sliding(rate: float, window: float) -> Callable[[], Limit]:
    return lambda: SlidingCount(rate, window)


def make_at_once(most: int, latency: float) -> Callable[[], Limit]:
    return lambda: AtOnce(most, latency)


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
