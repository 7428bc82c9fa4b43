"""The rate limits and the quota of the simulated license: for all its environments, users and connections."""

from __future__ import annotations

import math
from email.utils import formatdate

from worker.simulator.answers import Answer, refusal, timestamp
from worker.simulator.operation_names import Group
from worker.simulator.settings import Settings

# Seconds that a client is told to wait while the rate is 0 and there is no window whose end could be named.
UNTIL_NEXT_TRY = 1.0


class Limit:
    """The rate limit of a group: a token bucket, or a count that restarts with each window. `now` is in monotonic
    seconds."""

    def __init__(self, settings: Settings, group: Group = "mfa") -> None:
        self._rate = settings.rate if group == "mfa" else settings.group_rates.get(group)
        self._changes = sorted(settings.rate_changes.items()) if group == "mfa" else []
        self._window = settings.limit_window
        self._burst = float(settings.burst)
        self._left = self._burst
        self._filled_at = -math.inf
        self._began_at: float | None = None
        self._window_number = -1
        self._counted = 0

    def take(self, now: float) -> float | None:
        """Count one request against the limit: None if it is let through, else the seconds until the next one would
        be."""
        if self._began_at is None:
            self._began_at = now
        rate = self.rate(now)
        if rate is None:
            return None
        if rate == 0:
            return self._window or UNTIL_NEXT_TRY
        if self._window is None:
            return self._take_from_bucket(now, rate)
        return self._take_from_window(now, rate, self._window)

    def rate(self, now: float) -> float | None:
        """Requests a second that are permitted at `now`; None is unlimited. `rate_changes` count from the first
        request."""
        elapsed = now - self._began_at if self._began_at is not None else 0.0
        return next((rate for at, rate in reversed(self._changes) if at <= elapsed), self._rate)

    def _take_from_bucket(self, now: float, rate: float) -> float | None:
        self._left = min(self._burst, self._left + (now - self._filled_at) * rate)
        self._filled_at = now
        # Sums of floats may fall short of 1 by a rounding error.
        if self._left < 1 - 1e-9:
            return (1 - self._left) / rate
        self._left -= 1
        return None

    def _take_from_window(self, now: float, rate: float, window: float) -> float | None:
        """Count in windows that begin at multiples of their length, as services do, and not at a client's first
        request."""
        number = int(now // window)
        if number != self._window_number:
            self._window_number, self._counted = number, 0
        # At least one request a window, or nobody would ever get through.
        if self._counted >= max(1, int(rate * window)):
            return (number + 1) * window - now
        self._counted += 1
        return None


class Quota:
    """A quota: so many requests until it resets, then as many again. `now` is in monotonic seconds."""

    def __init__(self, settings: Settings) -> None:
        self._quota = settings.quota
        self._lasts = settings.quota_resets_after
        self._left = 0
        self._resets_at = -math.inf

    def take(self, now: float) -> float | None:
        """Count one request against the quota: None if it is let through, else the seconds until the quota resets."""
        if self._quota is None:
            return None
        if now >= self._resets_at:
            self._left, self._resets_at = self._quota, now + self._lasts
        if not self._left:
            return self._resets_at - now
        self._left -= 1
        return None


def quota_answer(resets_in: float, unix_time: float, settings: Settings) -> Answer:
    """The refusal of a request over the quota, which resets in `resets_in` seconds."""
    resets_at = settings.quota_reset_time if settings.quota_reset_time is not None else timestamp(unix_time + resets_in)
    return refusal(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", inner={"quotaResetTime": resets_at})


def limit_answer(wait: float, unix_time: float, settings: Settings) -> Answer:
    """The refusal of a request over the limit: a 429, or the 403 that some have seen in its place.

    `wait` is the seconds until a request would be let through.
    https://developer.pingidentity.com/pingone-api (rate limits)
    """
    if settings.limit_answer == "forbidden":
        return refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
    if settings.limit_answer == "quota":
        return quota_answer(settings.quota_resets_after, unix_time, settings)
    answer = refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
    match settings.retry_after:
        case "seconds":
            return answer.with_headers([(b"retry-after", str(max(1, math.ceil(wait))).encode())])
        case "date":
            # A date has whole seconds only; rounded down, it would make the client come back too early.
            date = formatdate(math.ceil(unix_time + wait), usegmt=True)
            return answer.with_headers([(b"retry-after", date.encode())])
        case "none":
            return answer
