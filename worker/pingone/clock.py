"""PingOne's clock, by which the OTPs of TOTP seeds are made: its time, as the `Date` of each answer tells it.

A `Date` has whole seconds only, and its answer was on its way for a while. So each answer leaves an interval for the
difference between PingOne's clock and ours, and the intervals of several answers together leave a short one. Ours is
`boot_time`, which nobody sets."""

import math
import threading
from datetime import datetime

from worker.clocks import boot_time


class PingOneClock:
    """The clock of one environment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lowest, self._highest = -math.inf, math.inf

    @property
    def is_known(self) -> bool:
        """Whether an answer has told the time."""
        return self._lowest > -math.inf

    def now(self) -> tuple[float, float]:
        """Tell between which two moments the time is by PingOne's clock, in seconds since the Unix epoch. Raises
        ValueError before the first answer."""
        with self._lock:
            lowest, highest = self._lowest, self._highest
        if lowest == -math.inf:
            raise ValueError("no answer has told the time yet")
        now = boot_time()
        return now + lowest, now + highest

    def learn(self, date: datetime | None, sent: float, received: float) -> None:
        """Take in the `Date` of an answer whose request was sent and that was received at these times, in `boot_time`
        seconds. An answer without one changes nothing."""
        if date is None:
            return
        # PingOne's clock is ahead of ours by so many seconds, at the least and at the most.
        least, most = date.timestamp() - received, date.timestamp() + 1 - sent
        with self._lock:
            lowest, highest = max(self._lowest, least), min(self._highest, most)
            if lowest > highest:
                # One of the two clocks was set, so what earlier answers said is not true any more.
                lowest, highest = least, most
            self._lowest, self._highest = lowest, highest
