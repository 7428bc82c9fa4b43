"""Clocks: the seconds since this machine was started, by which deadlines are counted, since setting the time does not
change them; whether the database's clock was set; and the time between two log lines about one trouble. Imports
nothing of ours.

`time.monotonic` stands still while a machine is suspended. After such a stop an OTP would go out minutes after it was
marked as sent, and a call would wait for an answer that was given up long ago. So deadlines are counted by a clock that
goes on during a suspension, where the system has one (Linux):
https://man7.org/linux/man-pages/man3/clock_gettime.3.html

What is due, and which lease has run out, is told by the database's clock. After a step of it a lease seems to be over
while its worker is still in a call, and a device would be read too soon after an answer was lost."""

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime

# CLOCK_MONOTONIC stands still while the machine is suspended; systems other than Linux have nothing better.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Return the seconds since the machine was started, including the time in which it was suspended."""
    return time.clock_gettime(_BOOT_CLOCK)


def suspended_time(clock: Callable[[], float] = boot_time, awake: Callable[[], float] = time.monotonic) -> float:
    """Seconds for which the machine was suspended since it was started; only the difference between two readings means
    something."""
    return clock() - awake()


# Seconds by which two clocks may drift apart, or an answer of the database be late, without being taken for a step.
TOLERANCE = 2.0
# Seconds. Ticks come every second: where none came for so long, no process was there to see whether the clock was set.
UNWATCHED = 15.0


class ClockWatch:
    """Compares the database's clock with this machine's seconds since boot. Not thread-safe: one tick compares at a
    time."""

    def __init__(self, clock: Callable[[], float] = boot_time, suspended: Callable[[], float] = suspended_time) -> None:
        self._clock = clock
        self._suspended = suspended
        # By how many seconds the database's clock is ahead of ours, at least and at most: it was read at some moment
        # between our asking and its answer.
        self._ahead: tuple[float, float] | None = None
        self._was_suspended = 0.0

    def is_steady(self, read: Callable[[], datetime], last_tick_at: datetime | None) -> bool:
        """Whether the database's clock, as `read` tells it, went on as ours did since the last call. `last_tick_at`:
        when any process of the fleet compared the clocks last, by the database's clock; it counts where this process
        never did."""
        before = self._clock()
        now = read()
        after = self._clock()
        ahead = now.timestamp() - after, now.timestamp() - before
        suspended = self._suspended()
        known, self._ahead = self._ahead, ahead
        was_suspended, self._was_suspended = self._was_suspended, suspended
        if known is None:
            return last_tick_at is None or abs((now - last_tick_at).total_seconds()) < UNWATCHED
        is_same = ahead[0] <= known[1] + TOLERANCE and known[0] <= ahead[1] + TOLERANCE
        return is_same and suspended - was_suspended < TOLERANCE


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
