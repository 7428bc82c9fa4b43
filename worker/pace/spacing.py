"""The requests of one process leave no closer together than their slots were.

A slot is given out before the claim and its commit. Where those stall for a moment, the threads that waited go on all
at once, and a limit that forgives a handful would refuse the rest. The time that a stall took is lost: it is not caught
up with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Requests that may leave at once.
AT_ONCE = 3
# The part of their distance at which the requests behind those leave: a little faster than their slots, so that they do
# not lag for ever, and not above the limit, for the rate is kept below it by as little.
CATCHING_UP = 0.995
# What the newest slot counts for in the mean of how far apart they are, once there were many.
WEIGHT = 0.05
# The newest slot counts for no more than this multiple of the mean: a hold between two slots is no distance.
LONGEST = 5.0
# Seconds. A slot that lies so much before the last one was given out by a Redis whose clock was set back.
SET_BACK = 60.0
# The smallest distance, in intervals of the fleet: the mean swings about 1 in a process that has all slots.
LEAST = 0.8


class Spacing:
    """How far apart the requests of one process leave. Thread-safe; times are in seconds."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._next = self._gap = 0.0
        # Of the fleet's slots, one in so many is this process'.
        self._one_in = 1.0
        # What the newest slot counts for in that mean.
        self._weight = 1.0
        self._last_slot: float | None = None

    def note_slot(self, slot: float, interval: float, *, is_crowded: bool) -> None:
        """Learn from a slot that this process was given how far apart its slots are; the fleet's lie `interval` apart.

        `is_crowded`: the slot is ahead, because others had theirs first. Otherwise nobody wanted one before, and there
        is room for as many as the fleet has: the time since the last one tells how long there was nothing to do, or how
        long this spacing itself kept them."""
        with self._lock:
            last = self._last_slot
            if last is None or last - slot > SET_BACK:
                last = slot - interval
            # Threads note their slots in any order: one that comes late was part of the last step.
            self._last_slot = max(slot, last)
            step = (self._last_slot - last) / interval
            if step > 0 or is_crowded:
                most = LONGEST * max(self._one_in, 1.0) if is_crowded else 1.0
                self._weight = max(self._weight / (1 + self._weight), WEIGHT)
                self._one_in += self._weight * (min(step, most) - self._one_in)
            # Whatever Redis' clock does, hardly closer together than the fleet's.
            self._gap = max(self._one_in, LEAST) * interval

    def wait_to_leave(self) -> None:
        """Sleep until the next request may leave.

        Threads do so one after the other: those behind one that wakes too late wait for what is left of their gap too,
        and do not all leave with it."""
        with self._turn:
            now = self._clock()
            if self._next > now:
                self._sleep(self._next - now)
                now = self._clock()
            self._next = max(self._next, now - (AT_ONCE - 1) * self._gap) + CATCHING_UP * self._gap
