"""How often a trouble that goes on is logged: once in a while, and not each time that it is met."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class LogInterval:
    """The time between two log lines about the same trouble, in seconds. Thread-safe."""

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._begun_at = -math.inf

    def begin_if_over(self) -> bool:
        """Begin another interval if the last one is over, or if there was none: then True, and it is time to log."""
        with self._lock:
            now = self._clock()
            if now - self._begun_at < self._seconds:
                return False
            self._begun_at = now
            return True
