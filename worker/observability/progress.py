"""What is told again and again while work goes on: how far it is, which whoever listens may draw, since the work itself
knows no terminal; and a trouble that lasts, once in a while, and not each time that it is met."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

# Rows of a file or a database after which it is told how far the work is: as many as take a second or less.
ROWS_EACH = 1000


class OnProgress(Protocol):
    """Hears how far a step of some work is."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Hear that of the step `what`, such as "Removing devices", so many things are done. `total`: how many there
        are; None where that is not known."""


def tell_nobody(what: str, done: int, total: int | None = None) -> None:
    """Do nothing, where nobody wants to hear how far the work is."""


def telling(
    items: Iterable[T], on_progress: OnProgress, what: str, total: int | None = None, *, each: int = ROWS_EACH
) -> Iterator[T]:
    """Go through the items, and tell after `each` so many of them how many are done."""
    for done, item in enumerate(items):
        if done and done % each == 0:
            on_progress(what, done, total)
        yield item


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
