"""What one process knows of holds: the fleet's, in case Redis is out of reach or forgets; what Redis told it last; and
a hold of its own, which stops no other process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# Seconds for which what Redis told another thread is recent enough.
RECENT = 0.02


class LocalHolds:
    """The holds that one process has asked for or heard of. Thread-safe.

    The holds that it asked for are in seconds of the process' clock, what it heard in microseconds of Redis' clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fleet_until = self._own_until = -math.inf
        self._heard_until, self._heard_at = 0, -math.inf
        # Why this process asked the fleet to hold, in a sentence.
        self.why = ""
        # When a person lifted a hold last, as far as this process has heard; 0 for never.
        self.last_lifting = 0

    @property
    def fleet_left(self) -> float:
        """Seconds that the fleet's hold still lasts, as far as this process asked for it; 0 if it did not."""
        with self._lock:
            return max(self._fleet_until - self._clock(), 0.0)

    @property
    def own_left(self) -> float:
        """Seconds that this process alone still holds, 0 if it does not."""
        with self._lock:
            return max(self._own_until - self._clock(), 0.0)

    def extend_fleet_hold(self, seconds: float, why: str = "") -> None:
        """Note that the fleet holds for so long from now on; never shortens a hold."""
        with self._lock:
            until = self._clock() + seconds
            if until > self._fleet_until:
                self._fleet_until, self.why = until, why

    def extend_own_hold(self, seconds: float) -> None:
        """Hold in this process alone for so long from now on; never shortens a hold."""
        with self._lock:
            self._own_until = max(self._own_until, self._clock() + seconds)

    def note_fleet_hold(self, held_until: int) -> None:
        """Note that Redis says until when the fleet holds."""
        with self._lock:
            self._heard_until, self._heard_at = held_until, self._clock()

    def note_lifting(self, last_lifting: int) -> bool:
        """Note when a person lifted a hold last, as Redis says. If that is news, end all holds that this process knows
        of, and return True."""
        with self._lock:
            if last_lifting in (0, self.last_lifting):
                return False
            self.last_lifting = last_lifting
            self._fleet_until = self._own_until = -math.inf
            return True

    def has_hold_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of, over by now or not, ends after this slot was due: at `due` by the
        process' clock."""
        with self._lock:
            return max(self._fleet_until, self._own_until) > due or self._heard_until > slot

    def is_held_past(self, slot: int) -> bool | None:
        """Whether a hold forbids to send at this slot; None where only Redis can tell."""
        if self.fleet_left > 0 or self.own_left > 0:
            return True
        with self._lock:
            return self._heard_until > slot if self._clock() - self._heard_at < RECENT else None
