"""The tally: second by second, what the rate limit let through and what it refused."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Second:
    """One whole second, `at` the machine's monotonic seconds, as the call log has them, in which a request arrived.

    `rate`: requests a second that the limit permitted when the latest of them arrived; None is unlimited. `limited`
    are those it refused, and `let_through` all others, however they were answered.
    """

    at: int
    rate: float | None = None
    let_through: int = 0
    limited: int = 0


class Tally:
    """The latest `kept` seconds with a request; by default they are a day. Requests for access tokens do not count."""

    def __init__(self, *, kept: int = 86_400) -> None:
        self._seconds: deque[Second] = deque(maxlen=kept)

    def note(self, now: float, rate: float | None, *, limited: bool) -> None:
        """Count one request that arrived `now`; it only grows."""
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(Second(int(now)))
        second = self._seconds[-1]
        second.rate = rate
        if limited:
            second.limited += 1
        else:
            second.let_through += 1

    def to_list(self) -> list[dict[str, Any]]:
        return [asdict(second) for second in self._seconds]
