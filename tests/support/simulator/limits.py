"""Limits besides the product's: rates that change, counts that restart, a quota; and how much of them was used."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from support.simulator.settings import WatchedSettings
from worker.simulator.calls import Answer, Group, refusal, timestamp
from worker.simulator.simulation import TokenBucket


class ChangingLimit(TokenBucket):
    """A token bucket whose rate changes with time, or a count that restarts with each window."""

    def __init__(self, settings: WatchedSettings, group: Group) -> None:
        super().__init__(settings, group)
        self._changes = sorted(settings.rate_changes.items()) if group == "mfa" else []
        self._window = settings.limit_window
        self._began_at: float | None = None
        self._counted = (-1, 0)

    def take(self, now: float) -> float | None:
        """Count one request, as the base class does."""
        if self._began_at is None:
            self._began_at = now
        elapsed = now - self._began_at
        self.rate = next((rate for at, rate in reversed(self._changes) if at <= elapsed), self.rate)
        if self._window is None or not self.rate:
            return super().take(now)
        # Windows begin at multiples of their length, as with services, and not at a client's first request.
        number = int(now // self._window)
        counted = self._counted[1] if number == self._counted[0] else 0
        # At least one request a window, or nobody would ever get through.
        if counted >= max(1, int(self.rate * self._window)):
            return (number + 1) * self._window - now
        self._counted = (number, counted + 1)
        return None


class Quota:
    """A quota: so many requests until it resets, then as many again. `now` is in monotonic seconds."""

    def __init__(self, settings: WatchedSettings) -> None:
        self._settings = settings
        self._left = 0
        self._resets_at = -math.inf

    def take(self, now: float) -> float | None:
        """Count one request against the quota: None if it is let through, else the seconds until the quota resets."""
        if self._settings.quota is None:
            return None
        if now >= self._resets_at:
            self._left, self._resets_at = self._settings.quota, now + self._settings.quota_resets_after
        if not self._left:
            return self._resets_at - now
        self._left -= 1
        return None


def quota_answer(resets_in: float, unix_time: float, settings: WatchedSettings) -> Answer:
    """The refusal of a request over the quota, which resets in `resets_in` seconds."""
    resets_at = settings.quota_reset_time or timestamp(unix_time + resets_in)
    return refusal(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", inner={"quotaResetTime": resets_at})


@dataclass(slots=True)
class Second:
    """One whole second in which a request arrived: `at` in the machine's monotonic seconds, as in the call log.

    `rate`: requests a second that the limit permitted when the latest of them arrived; None is unlimited. `limited`
    requests were refused, and `let_through` are all others, however they were answered.
    """

    at: int
    rate: float | None = None
    let_through: int = 0
    limited: int = 0


class Tally:
    """How many requests for devices were let through and refused, second by second, for the latest day."""

    def __init__(self) -> None:
        self._seconds: deque[Second] = deque(maxlen=86_400)

    def count(self, now: float, rate: float | None, *, limited: bool) -> None:
        """Count one request that arrived at `now`, which never goes back."""
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(Second(int(now)))
        second = self._seconds[-1]
        second.rate = rate
        second.limited += limited
        second.let_through += not limited

    def to_list(self) -> list[dict[str, Any]]:
        """The seconds as JSON, the oldest first."""
        return [asdict(second) for second in self._seconds]
