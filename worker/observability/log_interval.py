"""pingone: what goes on for long is said now and then, and not each time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class Seldom:
    """Thread-safe. Says once in `apart` seconds that it is time to say something."""

    def __init__(self, apart: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._apart = apart
        self._clock = clock
        self._lock = threading.Lock()
        self._last = -math.inf

    def is_due(self) -> bool:
        with self._lock:
            now = self._clock()
            if now - self._last < self._apart:
                return False
            self._last = now
            return True
