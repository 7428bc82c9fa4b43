"""The tally: how many requests the rate limit let through and refused, second by second."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any


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
    """Keeps the latest `kept` seconds that had a request; by default a day of them. Requests for access tokens are not
    counted."""

    def __init__(self, *, kept: int = 86_400) -> None:
        self._seconds: deque[Second] = deque(maxlen=kept)

    def count(self, now: float, rate: float | None, *, limited: bool) -> None:
        """Count one request that arrived at `now`, which never goes back."""
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(Second(int(now)))
        second = self._seconds[-1]
        second.rate = rate
        if limited:
            second.limited += 1
        else:
            second.let_through += 1

    def to_list(self) -> list[dict[str, Any]]:
        """The seconds as JSON, the oldest first."""
        return [asdict(second) for second in self._seconds]
