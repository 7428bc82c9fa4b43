"""Time, which passes only when the scheduler says so."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

# The database's clock may run ahead of the workers' by so much while a lease is held: what is left of it for the call
# that begins last, 25 s, is 5 s more than the call's deadline; and a second less.
SPARE = 4.0

_BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001 - as SQLite's functions read it: UTC without saying so


class Clock:
    """The processes' monotonic clock, and the database's, which may run ahead of it. In whole milliseconds, as SQLite
    writes times."""

    def __init__(self) -> None:
        self._passed = 0
        self._ahead = 0

    def monotonic(self) -> float:
        return self._passed / 1000

    def advance_to(self, moment: float) -> None:
        passed = math.ceil(moment * 1000)
        # The product may have been rounded down.
        passed += passed / 1000 < moment
        self._passed = max(self._passed, passed)

    def jump(self, seconds: float) -> None:
        """The database's clock is set; the processes' go on."""
        self._ahead += round(seconds * 1000)

    @property
    def ahead(self) -> float:
        return self._ahead / 1000

    def text(self) -> str:
        """The database's time."""
        now = _BEGIN + timedelta(milliseconds=self._passed + self._ahead)
        return now.isoformat(" ", "milliseconds")

    def moment_of(self, text: str) -> float:
        """When the processes' clock stands where the database writes this."""
        return (datetime.fromisoformat(text) - _BEGIN).total_seconds() - self.ahead
