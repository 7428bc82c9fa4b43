"""The fleet's rate, as one process knows it and moves it.

What was answered and refused goes to worker.pace.ceiling, and the rate that comes of it to Redis, whatever other
processes change meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from worker.pace import ceiling
from worker.pace.holds import Holds
from worker.pace.replies import Reading
from worker.pace.search import Search, hold_rate, restart_counting
from worker.pace.state import PaceState

# How often a change is tried: where another process has changed the rate first, ours is made again upon theirs.
TRIES = 5

# Makes another search of the present one and of what Redis says.
Change = Callable[[Search, Reading], Search]
# Returns what is remembered of the license's limit, for the time in Redis; None where nothing is.
Recall = Callable[[float], Search | None]


def _leave_unchanged(search: Search, _: Reading) -> Search:
    return search


class Rate:
    """The rate of one license. Thread-safe; every method raises redis.RedisError.

    It begins with what `recall` returns, or else at `rate` requests a second, and never goes above `highest`."""

    def __init__(self, state: PaceState, holds: Holds, rate: float, highest: float, recall: Recall) -> None:
        # Requests a second, as it was when it was read or changed last.
        self.rate = rate
        self._state, self._holds = state, holds
        self._highest = max(highest, rate)
        self._recall = recall
        self._search: Search | None = None
        self._reviewing = threading.Lock()

    def read(self) -> Reading:
        """Read the state of the license from Redis."""
        reading = self._state.read()
        self._holds.note_lifting(reading.last_lifting)
        if reading.search is not None:
            self._search, self.rate = reading.search, reading.search.rate
        return reading

    def change(self, change: Change = _leave_unchanged) -> Search:
        """Change the search in Redis, or write a first one where there is none; return it as it is after that."""
        for _ in range(TRIES):
            reading = self.read()
            search = reading.search or self._make_first_search(reading.now)
            changed = change(search, reading)
            if changed == reading.search:
                break
            if self._state.write(changed, reading.version, reading.slots):
                self._search, self.rate = changed, changed.rate
                return changed
        return search

    def lower(self, rate: float, slot: float) -> float:
        """Lower the rate after a refusal of a request that had its slot at this rate, at this time in Redis. Return
        for how many seconds the fleet had better hold, since everything is refused; 0 where it is not."""
        now = slot

        def learn(search: Search, reading: Reading) -> Search:
            nonlocal now
            now = reading.now
            resumes_at = max(reading.held_until, reading.next_slot, reading.now)
            changed = ceiling.learn_from_refusal(search, rate, slot, reading.answers, resumes_at)
            # Above the highest rate, neither a sprint nor what it climbs from goes.
            return replace(changed, rate=min(changed.rate, max(self._highest, search.rate)))

        search = self.change(learn)
        return max(search.knock_at - now, 0.0) if search.closed_since else 0.0

    def review(self) -> None:
        """Move the rate by what was answered so far. One thread does that at a time; the others go on without."""
        if self._reviewing.acquire(blocking=False):
            try:
                self.change(
                    lambda search, reading: ceiling.learn_from_answers(
                        search, reading.slots, reading.last, reading.now, self._highest, reading.next_slot
                    )
                )
            finally:
                self._reviewing.release()

    def _make_first_search(self, now: float) -> Search:
        """Return what this process knew before Redis forgot it; or what the database remembers; or the rate to begin
        with."""
        known = self._search or self._recall(now) or Search(self.rate)
        rate = known.rate if known.is_fixed else min(known.lasting_rate, self._highest)
        first = restart_counting(replace(known, rate=rate, refused_at=0.0), now)
        # The times at which it was refused and was to climb again were of Redis' clock, which may have been wrong.
        return first if first.climb else hold_rate(first, first.probe_after)
