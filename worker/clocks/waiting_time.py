"""The seconds that a process' threads wait, summed over all of them while they pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class WaitingTime:
    """Counts the time that threads spend within `with waiting_time:`. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._threads = 0
        # The ends of all waits less their beginnings. For a thread that still waits, the end is missing.
        self._sum = 0.0

    @property
    def seconds(self) -> float:
        """Seconds waited so far, those of threads that still wait included."""
        with self._lock:
            return self._sum + self._threads * self._clock()

    def __enter__(self) -> None:
        with self._lock:
            self._sum -= self._clock()
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._sum += self._clock()
            self._threads -= 1
