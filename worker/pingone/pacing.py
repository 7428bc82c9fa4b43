"""pingone: the fleet's pace. One slot at a time for one request, shared by every process through Redis; what comes of
the requests moves the rate.

The limits are per license and shared by its environments:
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import redis

from worker.pingone import ceiling
from worker.pingone.errors import PaceOutOfReach, SlotTooFar
from worker.pingone.holding import Holding
from worker.pingone.pace_state import MICROSECONDS, PaceState, Reading, Reservation
from worker.pingone.search import Search, begun
from worker.pingone.spacing import Spacing
from worker.pingone.untold import Untold
from worker.waiting import Waiting

# Seconds that a thread waits for its slot at most.
LONGEST_WAIT = 10.0
# Another process may be first with its change; then ours is made anew, a few times.
TRIES = 5

Change = Callable[[Search, Reading], Search]


def _as_it_is(search: Search, _: Reading) -> Search:
    return search


def _unknown(_: float) -> None:
    return None


class Slot(NamedTuple):
    """Leave to send one request: since when, in microseconds of Redis' clock, and the rate that it is of."""

    at: int
    rate: float


class Pace:
    """One license's pace; one object a process, shared by its threads. It begins with `begin`, at `rate` requests a
    second unless something better is known, and never goes above `highest`.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round trips; longer
    where the rate is so low that the `threads` of the process need it, up to LONGEST_WAIT."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        rate: float,
        *,
        highest: float = math.inf,
        begin: Callable[[float], Search | None] = _unknown,
        furthest: float = 2.0,
        threads: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.license = license
        self.rate = rate
        self._highest = max(highest, rate)
        self._begin = begin
        self._state = PaceState(redis, license)
        self._nearest, self._threads = furthest, threads
        self._sleep = sleep
        self._spacing, self._waiting, self._holding = Spacing(sleep, clock), Waiting(clock), Holding(clock)
        self._untold = Untold()
        self._search: Search | None = None
        self._looking, self._counting = threading.Lock(), threading.Lock()
        # Slots that this process was given.
        self.slots = 0

    @property
    def waited(self) -> float:
        """Seconds that the threads of this process waited for slots and to leave, all together."""
        return self._waiting.seconds

    def wait(self) -> Slot:
        """Reserve the next slot and sleep until it.

        Raises SlotTooFar where it is further than `furthest`, PaceOutOfReach where Redis cannot be asked: unpaced,
        nothing goes out."""
        furthest = left = max(self._nearest, min(2 * self._threads / self.rate, LONGEST_WAIT))
        try:
            while True:
                slot, wait = self._reserve(left)
                if wait > 0:
                    with self._waiting:
                        self._sleep(wait)
                # A hold that came meanwhile stops those who had their slot already: they ask for another.
                if wait <= 0 or not self._is_held_past(slot.at):
                    return slot
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            raise PaceOutOfReach(furthest * 2) from error

    def leave(self) -> None:
        """Right before a request leaves: no closer to the last one than their slots were."""
        with self._waiting:
            self._spacing.leave()

    def answered(self, slot: Slot) -> None:
        """The request of this slot was let through."""
        self._untold.add(slot.at)

    def refused(self, slot: Slot, seconds: float) -> None:
        """The request of this slot was answered 429: the fleet holds, and its rate was too high."""
        self.hold(seconds)

        def lower(search: Search, reading: Reading) -> Search:
            resumes_at = max(reading.held_until, reading.next_slot, reading.now)
            return ceiling.refused(search, slot.rate, slot.at / MICROSECONDS, reading.answers, resumes_at)

        try:
            self._tell()
            self.change(lower)
        except redis.RedisError:
            return

    def hold(self, seconds: float) -> None:
        """No slot for anyone in the next seconds; never shortens a hold. Kept here as well, for the case that Redis is
        out of reach or forgets: the next reservation tells it again."""
        if seconds <= 0:
            return
        self._holding.extend(seconds)
        try:
            self._state.hold(seconds)
        except redis.RedisError:
            return

    def held_for(self) -> float:
        """Seconds that the hold still lasts, 0 if there is none. Raises redis.RedisError."""
        reading = self.read()
        return max(reading.held_until - reading.now, self._holding.left)

    def read(self) -> Reading:
        """How it stands in Redis. Raises redis.RedisError."""
        reading = self._state.read()
        if reading.search is not None:
            self._search, self.rate = reading.search, reading.search.rate
        return reading

    def change(self, change: Change) -> Search:
        """Move the rate, whatever other processes do meanwhile; what it is after that. Raises redis.RedisError."""
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

    def _first(self, now: float) -> Search:
        """What this process knew before Redis forgot it; what the database remembers; or the rate to begin with."""
        known = self._search or self._begin(now) or Search(self.rate)
        rate = known.rate if known.is_fixed else min(known.rate, self._highest)
        return begun(replace(known, rate=rate), now)

    def _reserve(self, furthest: float) -> tuple[Slot, float]:
        """A slot and the seconds until it."""
        reservation = self._ask(furthest)
        if reservation.outcome < 0:
            self.change(_as_it_is)
            reservation = self._ask(furthest)
        if reservation.is_look_due:
            self._look()
        if reservation.outcome != 1:
            raise SlotTooFar(reservation.wait / MICROSECONDS)
        slot, interval = reservation.slot / MICROSECONDS, reservation.interval / MICROSECONDS
        self._spacing.took(slot, interval, is_crowded=reservation.wait > 0)
        return Slot(reservation.slot, 1 / interval), reservation.wait / MICROSECONDS

    def _ask(self, furthest: float) -> Reservation:
        reservation = self._state.reserve(furthest, self._holding.left, *self._untold.take())
        self._holding.heard(reservation.held_until)
        self._untold.count_since(reservation.counted_since)
        if reservation.outcome == 1:
            with self._counting:
                self.slots += 1
        return reservation

    def _tell(self) -> None:
        """The answers so far, without a slot: -1 s away is none."""
        self._ask(-1.0)

    def _look(self) -> None:
        """One thread looks whether the rate moves; the others have their slots."""
        if self._looking.acquire(blocking=False):
            try:
                self.change(
                    lambda search, reading: ceiling.answered(
                        search, reading.answers, reading.last, reading.now, self._highest, reading.next_slot
                    )
                )
            finally:
                self._looking.release()

    def _is_held_past(self, slot: int) -> bool:
        known = self._holding.is_past(slot)
        return self._state.held_until() > slot if known is None else known
