"""A fleet that uses every slot of its pace against a limit, in virtual time: what the search for the ceiling meets."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.pace import ceiling
from worker.pace.search import Search
from worker.simulator.limits import Limit as SimulatedLimit
from worker.simulator.settings import Settings

Rate = Callable[[float], float]


class Limit(Protocol):
    def take(self, now: float) -> float | None:
        """None: let through. Otherwise seconds until there is room."""
        ...


def bucket(rate: float, burst: int = 10, **changes: Any) -> SimulatedLimit:
    """The simulator's; `rate_changes` may say what the rate becomes after so many seconds."""
    return SimulatedLimit(Settings(rate=rate, burst=burst, **changes))


class Window:
    """The simulator's count that starts anew every second; its windows do not begin when the fleet does."""

    def __init__(self, rate: float, phase: float) -> None:
        self._limit, self._phase = SimulatedLimit(Settings(rate=rate, limit_window=1.0)), phase

    def take(self, now: float) -> float | None:
        return self._limit.take(now + self._phase)


class Stalling:
    """Stands still now and then, by chance, `every` so many seconds: what came meanwhile is taken at once."""

    def __init__(self, limit: Limit, every: float, length: float) -> None:
        self._limit, self._every, self._length = limit, every, length
        self._dice = random.Random(3)
        self._stall_at = self._dice.expovariate(1 / every)

    def take(self, now: float) -> float | None:
        while now >= self._stall_at + self._length:
            self._stall_at += self._length + self._dice.expovariate(1 / self._every)
        return self._limit.take(self._stall_at + self._length if now >= self._stall_at else now)


class Closed:
    """Lets nothing through."""

    def take(self, now: float) -> float | None:
        return 1.0


@dataclass
class VirtualFleet:
    """`latency` and `jitter` in seconds; `capacity`: requests a second that it can make at most; `ahead`: threads that
    wait for slots which they have already."""

    limit: Limit
    search: Search = field(default_factory=lambda: Search(30.0))
    latency: float = 0.005
    jitter: float = 0.002
    highest: float = 5000.0
    capacity: float = math.inf
    ahead: int = 0
    now: float = 0.0
    # When each request was answered, and whether it was let through.
    answers: list[tuple[float, bool]] = field(default_factory=list)
    # Rates after each refusal that counted.
    refusals: list[tuple[float, float]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(7))
    _on_the_way: list[tuple[float, int, float, float | None, float]] = field(default_factory=list)
    # Slots that were given out, and their rates.
    _slots: deque[tuple[float, float]] = field(default_factory=deque)
    _next_at: float = 0.0
    _held_until: float = 0.0
    _count: int = 0
    _last: float = 0.0
    _sent: int = 0
    _arrived_at: float = 0.0

    def run(self, until: float) -> VirtualFleet:
        while self.now < until:
            # Who has a slot from before a hold asks for another.
            while self._slots and self._slots[0][0] < self._held_until:
                self._slots.popleft()
            while len(self._slots) <= self.ahead:
                self._reserve()
            if self._on_the_way and self._on_the_way[0][0] <= self._slots[0][0]:
                self._answer(*heapq.heappop(self._on_the_way))
            else:
                self._send(*self._slots.popleft())
        return self

    def _reserve(self) -> None:
        slot = max(self._next_at, self._held_until, self.now)
        self._next_at = slot + 1 / min(self.search.rate, self.capacity)
        self._slots.append((slot, self.search.rate))

    def used(self, rate: Rate, since: float, until: float) -> float:
        """The part of the permitted requests that were made."""
        steps = 1000
        width = (until - since) / steps
        permitted = sum(rate(since + width * (step + 0.5)) for step in range(steps)) * width
        return sum(is_let for at, is_let in self.answers if since <= at < until) / permitted

    @property
    def refused_share(self) -> float:
        return sum(not is_let for _, is_let in self.answers) / len(self.answers)

    def _send(self, slot: float, rate: float) -> None:
        self.now = max(self.now, slot)
        arrives_at = max(slot + self.latency / 2 + self._dice.random() * self.jitter, self._arrived_at)
        self._arrived_at = arrives_at
        self._sent += 1
        wait = self.limit.take(arrives_at)
        heapq.heappush(self._on_the_way, (arrives_at + self.latency / 2, self._sent, slot, wait, rate))

    def _answer(self, at: float, _: int, slot: float, wait: float | None, rate: float) -> None:
        self.now = max(self.now, at)
        self.answers.append((at, wait is None))
        if wait is None:
            if slot >= self.search.since:
                self._count, self._last = self._count + 1, max(self._last, slot)
            changed = ceiling.learn_from_answers(self.search, self._count, self._last, at, self.highest, self._next_at)
        else:
            self._held_until = max(self._held_until, at + max(1, math.ceil(wait)))
            resumes_at = max(self._held_until, self._next_at)
            changed = ceiling.learn_from_refusal(self.search, rate, slot, self._count, resumes_at)
            if changed != self.search:
                self.refusals.append((at, changed.rate))
        if changed != self.search:
            self.search, self._count, self._last = changed, 0, 0.0
