"""The seconds since this machine was started. Setting the machine's time does not change them.

`time.monotonic` stands still while a machine is suspended. After such a stop an OTP would go out minutes after it was
marked as sent, and a call would wait for an answer that was given up long ago. So deadlines are counted by a clock that
goes on during a suspension, where the system has one (Linux):
https://man7.org/linux/man-pages/man3/clock_gettime.3.html"""

from __future__ import annotations

import time
from collections.abc import Callable

# CLOCK_MONOTONIC stands still while the machine is suspended; systems other than Linux have nothing better.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Seconds since the machine was started, the time in which it was suspended included."""
    return time.clock_gettime(_BOOT_CLOCK)


def suspended_time(clock: Callable[[], float] = boot_time, awake: Callable[[], float] = time.monotonic) -> float:
    """Seconds for which the machine was suspended since it was started; only the difference between two readings means
    something."""
    return clock() - awake()
