"""The rate limit of the simulated license: one for all its environments, users and connections."""

from __future__ import annotations

import math
from email.utils import formatdate

from worker.simulator.answers import Answer, refusal, timestamp
from worker.simulator.settings import Settings

# Seconds to stay away for where nothing is let through and no window says how long.
UNTIL_NEXT_TRY = 1.0


class Limit:
    """A token bucket, or a count that starts anew with each window. `now` is in seconds and only grows."""

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.rate
        self._window = settings.limit_window
        self._burst = float(settings.burst)
        self._left = self._burst
        self._filled_at = -math.inf
        self._window_ends_at = -math.inf

    def take(self, now: float) -> float | None:
        """Take one request's place: None, or, if there is none left, the seconds until there is one again."""
        if self._rate is None:
            return None
        if self._rate == 0:
            return self._window or UNTIL_NEXT_TRY
        if self._window is None:
            return self._take_from_bucket(now, self._rate)
        return self._take_from_window(now, self._rate, self._window)

    def _take_from_bucket(self, now: float, rate: float) -> float | None:
        self._left = min(self._burst, self._left + (now - self._filled_at) * rate)
        self._filled_at = now
        # A hair less than one is one: sums of floats fall short of it.
        if self._left < 1 - 1e-9:
            return (1 - self._left) / rate
        self._left -= 1
        return None

    def _take_from_window(self, now: float, rate: float, window: float) -> float | None:
        if now >= self._window_ends_at:
            self._window_ends_at = now + window
            self._left = max(1.0, rate * window)
        if self._left < 1:
            return self._window_ends_at - now
        self._left -= 1
        return None


def limit_answer(wait: float, wall: float, settings: Settings) -> Answer:
    """The refusal of a request over the limit: 429, or the 403 that some have seen in its place.

    `wait` is in seconds, `wall` the Unix time. https://developer.pingidentity.com/pingone-api (rate limits)
    """
    if settings.limit_answer == "forbidden":
        return refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
    if settings.limit_answer == "quota":
        resets_at = timestamp(wall + settings.quota_resets_after)
        return refusal(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", inner={"quotaResetTime": resets_at})
    answer = refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
    match settings.retry_after:
        case "seconds":
            return answer.with_headers([(b"retry-after", str(max(1, math.ceil(wait))).encode())])
        case "date":
            # A date has whole seconds only; one rounded down would send the client back too early.
            date = formatdate(math.ceil(wall + wait), usegmt=True)
            return answer.with_headers([(b"retry-after", date.encode())])
        case "none":
            return answer
