"""A fleet that uses every slot of its pace against a limit, in virtual time: what the search for the ceiling meets.
Rate limits of many kinds, how a rate moves, and the fleet.

A limit is told when a request arrives and when its answer will have left, and returns None where it lets the request
through, otherwise the seconds until there is room again. Processes take slots ahead, report their answers with their
next reservation, and obey holds, as those of worker.pace do with Redis between them."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from worker.pace.search import Search, learn_from_answers, learn_from_refusal

# Requests a second that a limit permits at a time, in seconds.
RateAt = Callable[[float], float]


def steady(rate: float) -> RateAt:
    return lambda now: rate


def changing(rate: float, changes: dict[float, float]) -> RateAt:
    """A rate that becomes another at each of these times."""
    later = sorted(changes.items(), reverse=True)
    return lambda now: next((changed for at, changed in later if at <= now), rate)


class Limit(Protocol):
    # Requests a second that are permitted.
    rate_at: RateAt

    def take(self, now: float, done_at: float) -> float | None:
        """Take a request: None where it is let through, otherwise the seconds until there is room for it."""
        ...


class Bucket:
    """Forgives `burst` requests at once, and fills at the limit's rate."""

    def __init__(self, rate: float | RateAt, burst: float = 10) -> None:
        self.rate_at = rate if callable(rate) else steady(rate)
        self._burst = self._left = max(burst, 1.0)
        self._filled_at = 0.0

    def take(self, now: float, done_at: float) -> float | None:
        rate = self.rate_at(now)
        self._left = min(self._burst, self._left + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._left < 1 - 1e-9:
            return (1 - self._left) / rate
        self._left -= 1
        return None


class Count:
    """Counts, and begins anew every `window` seconds, the first time `phase` of a window before the fleet begins."""

    def __init__(self, rate: float, window: float = 1.0, phase: float = 0.0) -> None:
        self.rate_at = steady(rate)
        self._most, self._window, self._phase = max(1, int(rate * window)), window, phase * window
        self._number, self._counted = 0, 0

    def take(self, now: float, done_at: float) -> float | None:
        number = int((now + self._phase) // self._window)
        if number != self._number:
            self._number, self._counted = number, 0
        if self._counted >= self._most:
            return (number + 1) * self._window - self._phase - now
        self._counted += 1
        return None


class SlidingCount:
    """Counts what it let through in the last `window` seconds."""

    def __init__(self, rate: float, window: float = 60.0) -> None:
        self.rate_at = steady(rate)
        self._window, self._most = window, max(1, int(rate * window))
        self._let: deque[float] = deque()

    def take(self, now: float, done_at: float) -> float | None:
        let = self._let
        while let and let[0] <= now - self._window:
            let.popleft()
        if len(let) >= self._most:
            return let[0] + self._window - now
        let.append(now)
        return None


class AtOnce:
    """Bounds how many requests it works on at once, whatever their rate; answers take `latency` seconds in the mean."""

    def __init__(self, most: int, latency: float) -> None:
        self.rate_at = steady(most / latency)
        self._most = most
        self._done_at: list[float] = []

    def take(self, now: float, done_at: float) -> float | None:
        while self._done_at and self._done_at[0] <= now:
            heapq.heappop(self._done_at)
        if len(self._done_at) >= self._most:
            return self._done_at[0] - now
        heapq.heappush(self._done_at, done_at)
        return None


class Shared:
    """A limit that another client uses too: at `others(now)` requests a second, evenly or by chance, and whatever it
    is answered."""

    def __init__(self, limit: Limit, others: RateAt, *, is_random: bool = False) -> None:
        self._limit, self._others, self._is_random = limit, others, is_random
        self._dice = random.Random(11)
        self._next = 0.0
        self.rate_at = lambda now: limit.rate_at(now) - others(now)

    def take(self, now: float, done_at: float) -> float | None:
        while self._next <= now:
            rate = self._others(self._next)
            if rate > 0:
                self._limit.take(self._next, self._next)
            gap = 1 / max(rate, 1.0)
            self._next += self._dice.expovariate(1 / gap) if self._is_random else gap
        return self._limit.take(now, done_at)


class Stalling:
    """Stands still now and then, by chance, `every` so many seconds: what came meanwhile is taken at once."""

    def __init__(self, limit: Limit, every: float, length: float) -> None:
        self.rate_at = limit.rate_at
        self._limit, self._every, self._length = limit, every, length
        self._dice = random.Random(3)
        self._stall_at = self._dice.expovariate(1 / every)

    def take(self, now: float, done_at: float) -> float | None:
        while now >= self._stall_at + self._length:
            self._stall_at += self._length + self._dice.expovariate(1 / self._every)
        return self._limit.take(self._stall_at + self._length if now >= self._stall_at else now, done_at)


class Chance:
    """Refuses a part of all requests between these times, by chance and whatever the rate, beside another limit."""

    def __init__(self, limit: Limit, part: float, since: float, until: float) -> None:
        self.rate_at = limit.rate_at
        self._limit, self._part, self._since, self._until = limit, part, since, until
        self._dice = random.Random(3)

    def take(self, now: float, done_at: float) -> float | None:
        is_refused = self._since <= now < self._until and self._dice.random() < self._part
        return 1.0 if is_refused else self._limit.take(now, done_at)


class Closed:
    """Lets nothing through between these times, and is another limit before and after."""

    def __init__(self, limit: Limit, since: float, until: float = math.inf) -> None:
        self.rate_at = limit.rate_at
        self._limit, self._since, self._until = limit, since, until

    def take(self, now: float, done_at: float) -> float | None:
        return 1.0 if self._since <= now < self._until else self._limit.take(now, done_at)


@dataclass
class Searching:
    """The pace of the product: its pure functions on its search.

    What a fleet asks of it: `rate`, in requests a second; `since`, from which slot on answers are counted;
    `review_due_at`: an answer to a slot from there on lets the rate be reviewed; `held_until`, before which nothing
    goes out, beyond what the limit asks for. Who learns says whether the rate, or what is known, has changed."""

    search: Search = field(default_factory=lambda: Search(30.0))
    highest: float = 5000.0

    @property
    def rate(self) -> float:
        return self.search.rate

    @property
    def since(self) -> float:
        return self.search.since

    @property
    def review_due_at(self) -> float:
        return self.search.review_due_at

    @property
    def held_until(self) -> float:
        return self.search.begun_at if self.search.open_rate else 0.0

    def learn_from_answers(self, slots: int, last: float, now: float, next_slot: float) -> bool:
        before = self.search
        self.search = learn_from_answers(before, slots, last, now, self.highest, next_slot)
        return self.search is not before

    def learn_from_refusal(self, rate: float, slot: float, count: int, resumes_at: float) -> bool:
        before = self.search
        self.search = learn_from_refusal(before, rate, slot, count, resumes_at)
        return self.search is not before


# A fleet that makes as many requests as it has slots.
UNBOUNDED = steady(math.inf)
# Seconds by which a request arrives late at the most, by chance: threads wake late, and networks are uneven.
LATE = 0.005


@dataclass
class Process:
    """What one process knows: answers that it has not reported, and since when they count."""

    since: float = 0.0
    answers: int = 0
    last: float = 0.0

    def add_answer(self, slot: float) -> None:
        if slot >= self.since:
            self.answers += 1
            self.last = max(self.last, slot)


@dataclass
class PacedFleet:
    """`latency` in seconds, of which `jitter` is by chance, as a part of it; refusals take `refusal_latency`, where it
    is given. `retry_after` is what the limit asks for; None: until there is room, in whole seconds. `capacity`:
    requests a second that the fleet can make at most, at a time: slots beyond them are left unused. Slots are taken
    `ahead` seconds before they are due, by so many `processes`, and used up to `late` seconds after it."""

    limit: Limit
    policy: Searching = field(default_factory=Searching)
    latency: float = 0.06
    jitter: float = 0.2
    refusal_latency: float | None = None
    retry_after: float | None = None
    capacity: RateAt = UNBOUNDED
    late: float = LATE
    ahead: float = 0.0
    processes: int = 1
    now: float = 0.0
    # How many were let through, and refused, in each second.
    let: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    # When a refusal changed what is known, and the rate after it.
    refusals: list[tuple[float, float]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(7))
    # When it is answered, its number, its slot, the rate of that, the process, and what the limit asks for.
    _on_the_way: list[tuple[float, int, float, float, Process, float | None]] = field(default_factory=list)
    _slots: deque[tuple[float, float, Process]] = field(default_factory=deque)
    _next_at: float = 0.0
    _held_until: float = 0.0
    _count: int = 0
    _last: float = 0.0
    _given: int = 0
    # Slots given since the rate changed last.
    _slots_given: int = 0
    _sent: int = 0
    _arrived_at: float = 0.0

    def __post_init__(self) -> None:
        self._processes = [Process() for _ in range(self.processes)]

    def run(self, until: float) -> PacedFleet:
        for seconds in (self.let, self.refused):
            seconds += [0] * (math.ceil(until) + 2 - len(seconds))
        slots, on_the_way = self._slots, self._on_the_way
        while self.now < until:
            # Who has a slot from before a hold asks for another.
            while slots and slots[0][0] < self._held_until:
                slots.popleft()
            while not slots or self._next_at < self.now + self.ahead:
                self._reserve()
            if on_the_way and on_the_way[0][0] <= slots[0][0]:
                self._answer(*heapq.heappop(on_the_way))
            else:
                self._send(*slots.popleft())
        return self

    def used(self, since: float, until: float) -> float:
        """The part of the permitted requests that were made between these seconds."""
        middles = [since + (step + 0.5) / 10 for step in range(round((until - since) * 10))]
        permitted = sum(self.limit.rate_at(middle) for middle in middles) / 10
        return sum(self.let[int(since) : int(until)]) / permitted

    @property
    def refused_share(self) -> float:
        return sum(self.refused) / (sum(self.refused) + sum(self.let))

    def _reserve(self) -> None:
        policy = self.policy
        slot = max(self._next_at, self._held_until, self.now)
        self._next_at = slot + 1 / min(policy.rate, self.capacity(slot))
        self._given += 1
        self._slots_given += 1
        process = self._processes[self._given % self.processes]
        self._slots.append((slot, policy.rate, process))
        self._report(process)
        if self._last < policy.review_due_at:
            return
        if policy.learn_from_answers(self._slots_given, self._last, self.now, self._next_at):
            self._count, self._last, self._slots_given = 0, 0.0, 0

    def _report(self, process: Process) -> None:
        """Tell of the answers that a process had, as with a reservation, and let it hear since when they count."""
        since = self.policy.since
        if process.answers and process.last >= since:
            self._count += process.answers
            self._last = max(self._last, process.last)
        process.answers = 0
        process.since = since

    def _send(self, slot: float, rate: float, process: Process) -> None:
        self.now = max(self.now, slot)
        self._sent += 1
        latency = self.latency * (1 + self.jitter * (2 * self._dice.random() - 1))
        arrives_at = max(slot + self.late * self._dice.random(), self._arrived_at)
        self._arrived_at = arrives_at
        wait = self.limit.take(arrives_at, arrives_at + latency)
        if arrives_at < len(self.let):
            (self.let if wait is None else self.refused)[int(arrives_at)] += 1
        if wait is not None and self.refusal_latency is not None:
            latency = self.refusal_latency
        heapq.heappush(self._on_the_way, (arrives_at + latency, self._sent, slot, rate, process, wait))

    def _answer(self, at: float, _: int, slot: float, rate: float, process: Process, wait: float | None) -> None:
        self.now = max(self.now, at)
        if wait is None:
            process.add_answer(slot)
            return
        asked = self.retry_after or max(1, math.ceil(wait))
        self._held_until = max(self._held_until, at + asked)
        self._report(process)
        resumes_at = max(self._held_until, self._next_at)
        if self.policy.learn_from_refusal(rate, slot, self._count, resumes_at):
            self._count, self._last, self._slots_given = 0, 0.0, 0
            self.refusals.append((at, self.policy.rate))
            self._held_until = max(self._held_until, self.policy.held_until)
