"""Rate limits of many kinds in virtual time. Each is told when a request arrives and when its answer will have left,
and returns None where it lets the request through, otherwise the seconds until there is room again."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

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
