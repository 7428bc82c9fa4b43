"""Answers that this process has had and that Redis has not been told of yet."""

from __future__ import annotations

import threading


class UnreportedAnswers:
    """The count of answers that the next reservation reports. Thread-safe.

    Slots are in microseconds of Redis' clock: an answer counts if its slot is no older than the present rate."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = self._answers = self._last = 0

    def add(self, slot: int) -> None:
        """Count an answer: the request of this slot was let through."""
        with self._lock:
            if slot >= self._since:
                self._answers += 1
                self._last = max(self._last, slot)

    def take(self) -> tuple[int, int]:
        """Return how many there are, and the last of all slots so far; begin counting anew, for these are reported
        now."""
        with self._lock:
            answers, self._answers = self._answers, 0
            return answers, self._last

    def count_since(self, slot: int) -> None:
        """Count answers to slots from this one on. If the rate has changed at it, the answers so far are dropped: they
        tell nothing of the new rate."""
        with self._lock:
            if slot != self._since:
                self._since, self._answers, self._last = slot, 0, 0
