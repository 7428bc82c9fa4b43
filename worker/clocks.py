"""Clocks: the seconds since this machine was started, which deadlines use, since setting the time does not change them;
whether the database's clock was set; how far away a server is; the interval between log lines about one problem; and
PingOne's clock, by which TOTP seeds make their OTPs. Imports nothing from oathbulk.

`time.monotonic` stops while a machine is suspended. After such a stop, an OTP would be sent minutes after it was marked
as sent, and a call would wait for an answer that nobody expects anymore. So deadlines use a clock that continues during
a suspension, if the system has one (Linux):
https://man7.org/linux/man-pages/man3/clock_gettime.3.html

The database's clock decides what is due, and which lease has expired. After it is set, a lease may seem over while its
worker is still in a call, and a device would be read too soon after an answer was lost."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")

# CLOCK_MONOTONIC stops while the machine is suspended; systems other than Linux have nothing better.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Return the seconds since the machine was started, including suspended time."""
    return time.clock_gettime(_BOOT_CLOCK)


def suspended_time(clock: Callable[[], float] = boot_time, awake: Callable[[], float] = time.monotonic) -> float:
    """Return the seconds for which the machine was suspended since it was started. Only the difference between two
    readings has a meaning."""
    return clock() - awake()


# Seconds by which two clocks may drift apart, or an answer from the database may be late, without the clock counting as
# set.
TOLERANCE = 2.0
# Seconds. Ticks come every second; after this long without a tick, no process was there to see whether the clock was
# set.
UNWATCHED = 15.0


class ClockWatch:
    """Compares the database's clock with this machine's seconds since boot. Not thread-safe: one tick compares at a
    time."""

    def __init__(self, clock: Callable[[], float] = boot_time, suspended: Callable[[], float] = suspended_time) -> None:
        self._clock = clock
        self._suspended = suspended
        # By how many seconds the database's clock is ahead of ours, at least and at most. It was read at some moment
        # between our request and its answer.
        self._ahead: tuple[float, float] | None = None
        self._was_suspended = 0.0

    def read(self) -> float:
        """Read this machine's clock, right before asking the database for its time."""
        return self._clock()

    def is_steady(self, now: datetime, before: float, last_tick_at: datetime | None) -> bool:
        """Whether the database's clock, just read as `now`, has advanced as much as ours since the last call. `before`:
        our clock when the database was asked. `last_tick_at`: when any process of the fleet last compared the clocks,
        by the database's clock; used if this process never has."""
        after = self._clock()
        ahead = now.timestamp() - after, now.timestamp() - before
        suspended = self._suspended()
        known, self._ahead = self._ahead, ahead
        was_suspended, self._was_suspended = self._was_suspended, suspended
        if known is None:
            return last_tick_at is None or abs((now - last_tick_at).total_seconds()) < UNWATCHED
        is_same = ahead[0] <= known[1] + TOLERANCE and known[0] <= ahead[1] + TOLERANCE
        return is_same and suspended - was_suspended < TOLERANCE


# Number of trips to a server among which the shortest counts.
LATEST_TRIPS = 8


class Trips:
    """Measures how long a trip to a server takes: the shortest of the last few, since a busy process notices an answer
    late. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest = deque[float](maxlen=LATEST_TRIPS)

    def measure(self, ask: Callable[[], T]) -> T:
        """Ask the server, and return its answer."""
        began = self._clock()
        answer = ask()
        self._latest.append(self._clock() - began)
        return answer

    @property
    def shortest(self) -> float | None:
        """The seconds that the shortest trip took; None before the first trip."""
        return min(self._latest.copy(), default=None)


# Seconds between two log lines about the same problem.
INTERVAL = 60.0


class LogInterval:
    """Tells when to log the same problem again. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun_at = -math.inf

    def begin_if_over(self) -> bool:
        """Begin a new interval if the last one is over, or if there was none. True: it is time to log."""
        with self._lock:
            now = self._clock()
            if now - self._begun_at < INTERVAL:
                return False
            self._begun_at = now
            return True


# Seconds between two times that confirm each other: more than the travel time of an answer.
NEAR = 60.0


class PingOneClock:
    """PingOne's clock in one environment. Thread-safe.

    The `Date` of each answer gives its time in whole seconds, and the answer traveled for a while. So each answer
    limits the difference between PingOne's clock and ours to an interval, and several answers together leave a short
    interval. Our clock is `boot_time`, which nobody sets.

    A single answer is not trusted: its time counts if it is near the time of the previous answer, or near this
    machine's clock (`read_clock`, in seconds since the Unix epoch). So if PingOne's clock was set, or this machine's
    clock is wrong, a second answer is needed."""

    def __init__(self, read_clock: Callable[[], float] = time.time) -> None:
        self._read_clock = read_clock
        self._lock = threading.Lock()
        self._lowest, self._highest = -math.inf, math.inf
        # By how many seconds PingOne was ahead of `boot_time`, at least, according to the last answer.
        self._last = math.inf

    @property
    def is_known(self) -> bool:
        """Whether an answer has shown the time."""
        return self._lowest > -math.inf

    def now(self) -> tuple[float, float]:
        """Return the earliest and latest possible time by PingOne's clock, in seconds since the Unix epoch. Raises
        ValueError before the first answer."""
        with self._lock:
            lowest, highest = self._lowest, self._highest
        if lowest == -math.inf:
            raise ValueError("no answer has given the time yet")
        now = boot_time()
        return now + lowest, now + highest

    def learn(self, date: datetime | None, sent: float, received: float) -> None:
        """Learn from the `Date` of an answer; `sent` and `received` are in `boot_time` seconds. Ignores an answer
        without a date, and an answer whose time is far from all known times."""
        if date is None:
            return
        age = boot_time() - received
        is_near_ours = abs(date.timestamp() + age - self._read_clock()) < NEAR
        # PingOne's clock is ahead of ours by this many seconds, at least and at most.
        least, most = date.timestamp() - received, date.timestamp() + 1 - sent
        with self._lock:
            is_near_last, self._last = abs(least - self._last) < NEAR, least
            if not (is_near_last or is_near_ours):
                return
            lowest, highest = max(self._lowest, least), min(self._highest, most)
            if lowest > highest:
                # One of the two clocks was set, so earlier answers are no longer valid.
                lowest, highest = least, most
            self._lowest, self._highest = lowest, highest
