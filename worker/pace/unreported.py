"""pingone: answers that a process has had and Redis was not told of yet."""

from __future__ import annotations

import threading


class Untold:
    """Thread-safe. Slots are in microseconds of Redis' clock: an answer counts if its slot is no older than the present
    rate."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = self._answers = self._last = 0

    def add(self, slot: int) -> None:
        """The request of this slot was let through."""
        with self._lock:
            if slot >= self._since:
                self._answers += 1
                self._last = max(self._last, slot)

    def take(self) -> tuple[int, int]:
        """How many, and the last of all slots so far; they are told now."""
        with self._lock:
            answers, self._answers = self._answers, 0
            return answers, self._last

    def count_since(self, slot: int) -> None:
        """Where the rate is another since this slot, what was answered before tells nothing of it."""
        with self._lock:
            if slot != self._since:
                self._since, self._answers, self._last = slot, 0, 0
