"""pingone: slots that a process was given and had no use for, as for a message that came twice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

# Seconds. What is older is lost: sent then, it would come on top of what is due by then.
FRESH = 1.0
# Slots kept, since all of them may be used at once.
MOST = 16

# When a slot is due, in microseconds of Redis' clock, its rate, and when it is due in seconds of the process' clock.
Given = tuple[int, float, float]


class KnownHolds(Protocol):
    """The holds that a process knows of."""

    def came_after(self, slot: int, due: float) -> bool: ...


class Spares:
    """Thread-safe, as a deque is."""

    def __init__(self, holds: KnownHolds, clock: Callable[[], float] = time.monotonic) -> None:
        self._holds = holds
        self._clock = clock
        self._kept: deque[Given] = deque(maxlen=MOST)

    def keep(self, slot: Given) -> None:
        self._kept.append(slot)

    def take(self) -> Given | None:
        """One that is fresh, and since which this process knows of no hold; None if there is none."""
        while self._kept:
            try:
                slot = self._kept.pop()
            except IndexError:
                # Another thread was faster.
                return None
            at, _, due = slot
            if self._clock() - due <= FRESH and not self._holds.came_after(at, due):
                return slot
        return None
