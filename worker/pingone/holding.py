"""pingone: what one process knows of the fleet's hold: its own, in case Redis is out of reach or forgets, and what it
heard last."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# Seconds for which what another thread heard is good enough.
FRESH = 0.02


class Holding:
    """Thread-safe. Its own hold is in seconds of the process' clock, what it heard in microseconds of Redis'."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._own_until = -math.inf
        self._heard_until, self._heard_at = 0, -math.inf

    @property
    def left(self) -> float:
        """Seconds that its own hold still lasts, 0 if there is none."""
        with self._lock:
            return max(self._own_until - self._clock(), 0.0)

    def extend(self, seconds: float) -> None:
        """Hold for so long from now on; never shortens a hold."""
        with self._lock:
            self._own_until = max(self._own_until, self._clock() + seconds)

    def heard(self, held_until: int) -> None:
        """Redis says that the fleet holds until then."""
        with self._lock:
            self._heard_until, self._heard_at = held_until, self._clock()

    def came_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of, over by now or not, ends after this slot was due: at `due` by the
        process' clock."""
        with self._lock:
            return self._own_until > due or self._heard_until > slot

    def is_past(self, slot: int) -> bool | None:
        """Nobody may send at this slot; None where only Redis can tell."""
        if self.left > 0:
            return True
        with self._lock:
            return self._heard_until > slot if self._clock() - self._heard_at < FRESH else None
