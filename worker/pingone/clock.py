"""PingOne's clock, as the `Date` of its answers shows it. TOTP tokens are checked by it, and not by this machine's."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

from worker.clocks.boot_clock import boot_time
from worker.pingone.envelope import read_date


class PingOneClock:
    """The clock of one environment. Thread-safe.

    A `Date` says whole seconds only, and the answer was on its way for a while. So each answer leaves an interval for
    the difference between PingOne's clock and ours, and the intervals of several answers together leave a short one.
    Ours is `boot_time`, which nobody sets.
    """

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

    def learn(self, headers: Mapping[str, str], sent: float, received: float) -> None:
        """Take in the `Date` of an answer whose request was sent and that was received at these times, in `boot_time`
        seconds. An answer without one changes nothing."""
        told = read_date(headers)
        if told is None:
            return
        date = told.timestamp()
        with self._lock:
            lowest, highest = max(self._lowest, date - received), min(self._highest, date + 1 - sent)
            if lowest > highest:
                # One of the two clocks was set, so what earlier answers said is not true any more.
                lowest, highest = date - received, date + 1 - sent
            self._lowest, self._highest = lowest, highest
