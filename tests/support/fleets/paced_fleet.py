"""A fleet that uses every slot of its pace against a limit, in virtual time: what the search for the ceiling meets.

Processes take slots ahead, report their answers with their next reservation, and obey holds, as those of worker.pace
do with Redis between them."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field

from support.fleets.policies import Policy, Searching
from support.fleets.virtual_limits import Limit, RateAt, steady

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
    policy: Policy = field(default_factory=Searching)
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
