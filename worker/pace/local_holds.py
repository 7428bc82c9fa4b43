"""pingone: what one process knows of holds: the fleet's, in case Redis is out of reach or forgets; what it heard of it
last; and a hold of its own, which stops no other process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# Seconds for which what another thread heard is good enough.
FRESH = 0.02


class Holding:
    """Thread-safe. Its holds are in seconds of the process' clock, what it heard in microseconds of Redis'."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = self._alone_until = -math.inf
        self._heard_until, self._heard_at = 0, -math.inf
        # Why the fleet holds; and when a person lifted a hold last, of which this process has heard.
        self.why, self.lifted = "", 0

    @property
    def left(self) -> float:
        """Seconds that the fleet's hold still lasts, as far as this process asked for it; 0 if it did not."""
        with self._lock:
            return max(self._until - self._clock(), 0.0)

    @property
    def left_alone(self) -> float:
        """Seconds that this process alone still holds, 0 if it does not."""
        with self._lock:
            return max(self._alone_until - self._clock(), 0.0)

    def extend(self, seconds: float, why: str = "") -> None:
        """The fleet holds for so long from now on; never shortens a hold."""
        with self._lock:
            until = self._clock() + seconds
            if until > self._until:
                self._until, self.why = until, why

    def extend_alone(self, seconds: float) -> None:
        """This process holds for so long from now on; never shortens a hold."""
        with self._lock:
            self._alone_until = max(self._alone_until, self._clock() + seconds)

    def heard(self, held_until: int) -> None:
        """Redis says that the fleet holds until then."""
        with self._lock:
            self._heard_until, self._heard_at = held_until, self._clock()

    def is_lifted(self, lifted: int) -> bool:
        """Redis says when a person lifted a hold last. True: that is news, and this process holds no longer."""
        with self._lock:
            if lifted in (0, self.lifted):
                return False
            self.lifted = lifted
            self._until = self._alone_until = -math.inf
            return True

    def came_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of, over by now or not, ends after this slot was due: at `due` by the
        process' clock."""
        with self._lock:
            return max(self._until, self._alone_until) > due or self._heard_until > slot

    def is_past(self, slot: int) -> bool | None:
        """Nobody may send at this slot; None where only Redis can tell."""
        if self.left > 0 or self.left_alone > 0:
            return True
        with self._lock:
            return self._heard_until > slot if self._clock() - self._heard_at < FRESH else None
