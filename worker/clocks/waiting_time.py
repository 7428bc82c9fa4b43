"""The seconds that a process' threads wait, summed over all of them while they pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Waiting:
    """A thread waits within `with waiting:`; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._threads = 0
        # Ends less beginnings: what is wanting are the ends of those who wait still.
        self._sum = 0.0

    @property
    def seconds(self) -> float:
        """So far, of those who wait still as well."""
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
