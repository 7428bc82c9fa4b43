"""pingone: requests of one process leave no closer together than their slots were.

A slot is given out before the claim and its commit. Where those stall for a moment, what waited goes on all at once,
and a limit that forgives a handful would refuse the rest. What a stall lost is lost: it is not caught up with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# So many may leave at once; those behind them a little faster than their slots, so that they do not lag for ever, and
# not above the limit that the rate is kept below by as little.
AT_ONCE = 3
CATCHING_UP = 0.995
# Of the newest slot in the mean of how far apart they are, when there were many; and none counts for more than so many
# of the mean: a hold is no distance.
WEIGHT, LONGEST = 0.05, 5.0
# Seconds. A slot so much before the last one was given out by a Redis whose clock was set back.
SET_BACK = 60.0
# The mean swings about 1 in a process that has all slots.
LEAST = 0.8


class Spacing:
    """Thread-safe. Times in seconds."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._next = self._gap = 0.0
        # Of the fleet's slots, one in so many is this process'; and what the newest counts for in that mean.
        self._one_in = self._weight = 1.0
        self._last_slot: float | None = None

    def took(self, slot: float, interval: float, *, is_crowded: bool) -> None:
        """This process was given a slot; the fleet's lie `interval` apart. `is_crowded`: it is ahead, because others
        had theirs first. Otherwise nobody wanted one before, and there is room for as many as the fleet has: the time
        since the last one tells how long there was nothing to do, or how long this spacing itself kept them."""
        with self._lock:
            last = self._last_slot
            if last is None or last - slot > SET_BACK:
                last = slot - interval
            # Threads tell of their slots in any order: one that comes late was part of the last step.
            self._last_slot = max(slot, last)
            step = (self._last_slot - last) / interval
            if step > 0 or is_crowded:
                most = LONGEST * max(self._one_in, 1.0) if is_crowded else 1.0
                self._weight = max(self._weight / (1 + self._weight), WEIGHT)
                self._one_in += self._weight * (min(step, most) - self._one_in)
            # Whatever Redis' clock does, hardly closer together than the fleet's.
            self._gap = max(self._one_in, LEAST) * interval

    def leave(self) -> None:
        """Sleep until the next request may leave. One after the other, so that those behind one that wakes too late
        wait for what is left of their gap too, and do not all leave with it."""
        with self._turn:
            now = self._clock()
            if self._next > now:
                self._sleep(self._next - now)
                now = self._clock()
            self._next = max(self._next, now - (AT_ONCE - 1) * self._gap) + CATCHING_UP * self._gap
