"""How often a trouble that goes on is logged: once in a while, and not each time that it is met."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# Seconds between two log lines about the same trouble.
INTERVAL = 60.0


class LogInterval:
    """Tells when it is time for another log line about the same trouble. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun_at = -math.inf

    def begin_if_over(self) -> bool:
        """Begin another interval if the last one is over, or if there was none: then True, and it is time to log."""
        with self._lock:
            now = self._clock()
            if now - self._begun_at < INTERVAL:
                return False
            self._begun_at = now
            return True
