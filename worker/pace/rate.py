"""pingone: the fleet's rate, as one process knows it and moves it: what was answered and refused goes to
worker.pace.ceiling, and what that makes of it to Redis, whatever other processes do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from worker.pace import ceiling
from worker.pace.holds import Holds
from worker.pace.search import Search, begun, staying
from worker.pace.state import PaceState, Reading

# Another process may be first with its change; then ours is made anew, a few times.
TRIES = 5

Change = Callable[[Search, Reading], Search]
# What is remembered of the license's limit, by the time in Redis; None where nothing is.
Begin = Callable[[float], Search | None]


def _as_it_is(search: Search, _: Reading) -> Search:
    return search


class Rate:
    """Thread-safe; every method raises redis.RedisError. Begins with `begin`, at `rate` requests a second unless
    something better is known, and never goes above `highest`."""

    def __init__(self, state: PaceState, holds: Holds, rate: float, highest: float, begin: Begin) -> None:
        # What it was when it was read or changed last, in requests a second.
        self.rate = rate
        self._state, self._holds = state, holds
        self._highest = max(highest, rate)
        self._begin = begin
        self._search: Search | None = None
        self._looking = threading.Lock()

    def read(self) -> Reading:
        """How it stands in Redis."""
        reading = self._state.read()
        self._holds.hear_lifted(reading.lifted)
        if reading.search is not None:
            self._search, self.rate = reading.search, reading.search.rate
        return reading

    def change(self, change: Change = _as_it_is) -> Search:
        """Move it, or begin where nobody has; what it is after that."""
        for _ in range(TRIES):
            reading = self.read()
            search = reading.search or self._first(reading.now)
            changed = change(search, reading)
            if changed == reading.search:
                break
            if self._state.write(changed, reading.version):
                self._search, self.rate = changed, changed.rate
                return changed
        return search

    def lower(self, rate: float, slot: float) -> None:
        """A request that had its slot at this rate, at this time in Redis, was refused."""

        def lowered(search: Search, reading: Reading) -> Search:
            resumes_at = max(reading.held_until, reading.next_slot, reading.now)
            return ceiling.refused(search, rate, slot, reading.answers, resumes_at)

        self.change(lowered)

    def look(self) -> None:
        """One thread looks whether it moves; the others have their slots."""
        if self._looking.acquire(blocking=False):
            try:
                self.change(
                    lambda search, reading: ceiling.answered(
                        search, reading.answers, reading.last, reading.now, self._highest, reading.next_slot
                    )
                )
            finally:
                self._looking.release()

    def _first(self, now: float) -> Search:
        """What this process knew before Redis forgot it; what the database remembers; or the rate to begin with."""
        known = self._search or self._begin(now) or Search(self.rate)
        rate = known.rate if known.is_fixed else min(known.rate, self._highest)
        again = begun(replace(known, rate=rate), now)
        # When it climbs again was a time of Redis' clock, which may have been wrong.
        return again if again.climb else staying(again, again.probe_after)
