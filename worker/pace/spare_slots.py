"""Slots that a process was given and had no use for, as for a message that came twice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from worker.pace.slot import Slot

# Seconds after a slot was due in which it may be used. Later it is lost: a request that is sent then would come on top
# of what is due by then.
USABLE_FOR = 1.0
# Slots kept at the most, since all of them may be used at once.
MOST_KEPT = 16


class KnownHolds(Protocol):
    """The holds that a process knows of."""

    def has_hold_after(self, slot: int, due: float) -> bool: ...


class SpareSlots:
    """The slots that were given back. Thread-safe, as a deque is."""

    def __init__(self, holds: KnownHolds, clock: Callable[[], float] = time.monotonic) -> None:
        self._holds = holds
        self._clock = clock
        self._slots: deque[Slot] = deque(maxlen=MOST_KEPT)

    def add(self, slot: Slot) -> None:
        """Keep this slot for whoever needs one next; if there are too many, the oldest is lost."""
        self._slots.append(slot)

    def take(self) -> Slot | None:
        """Take the newest slot that may still be used, and since which this process knows of no hold; None if there is
        none."""
        while self._slots:
            try:
                slot = self._slots.pop()
            except IndexError:
                # Another thread was faster.
                return None
            if self._clock() - slot.due <= USABLE_FOR and not self._holds.has_hold_after(slot.at, slot.due):
                return slot
        return None
