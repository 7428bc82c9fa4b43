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
from typing import NamedTuple

import redis

from worker.clocks.waiting_time import Waiting
from worker.observability.log_interval import Seldom
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.holds import Holds
from worker.pace.rate import Begin, Change, Rate
from worker.pace.search import Search
from worker.pace.spacing import Spacing
from worker.pace.spare_slots import Spares
from worker.pace.state import MICROSECONDS, PaceState, Reading, Reservation
from worker.pace.unreported import Untold

# Seconds that a thread waits for its slot at most.
LONGEST_WAIT = 10.0
# Why a hold was asked for where nothing better is known.
UNEXPLAINED = "a worker asked for it"


def _unknown(_: float) -> None:
    return None


def _tell_nobody(*_: object) -> None:
    return None


class Slot(NamedTuple):
    """Leave to send one request: since when, in microseconds of Redis' clock; the rate that it is of; and since when in
    seconds of this process' clock, -inf where nobody says."""

    at: int
    rate: float
    due: float = -math.inf


class Pace:
    """One license's pace; one object a process, shared by its threads. It begins with `begin`, at `rate` requests a
    second unless something better is known, and never goes above `highest`.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round trips; longer
    where the rate is so low that the `threads` of the process need it, up to LONGEST_WAIT.

    No hold is longer than `longest_hold` seconds. `alone` is told, in a sentence, when this process could not deliver
    while another could; `lifted` is called when a person has lifted a hold."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        rate: float,
        *,
        highest: float = math.inf,
        begin: Begin = _unknown,
        furthest: float = 2.0,
        threads: int = 0,
        longest_hold: float = 120.0,
        alone: Callable[[str], object] = _tell_nobody,
        lifted: Callable[[], object] = _tell_nobody,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.license = license
        longest_wait = max(furthest, LONGEST_WAIT)
        state = PaceState(redis, license, longest_wait=longest_wait, longest_hold=longest_hold)
        self._nearest, self._threads = furthest, threads
        self._sleep = sleep
        self._spacing, self._waiting = Spacing(sleep, clock), Waiting(clock)
        self._holds = Holds(state, longest_hold, clock, alone=alone, lifted=lifted)
        self._rate = Rate(state, self._holds, rate, highest, begin)
        self._untold = Untold()
        self._complaint = Seldom(clock=clock)
        self._clock, self._spares = clock, Spares(self._holds, clock)
        self._counting = threading.Lock()
        # Slots that this process was given.
        self.slots = 0

    @property
    def rate(self) -> float:
        """Requests a second of the fleet, as this process heard of it last."""
        return self._rate.rate

    @property
    def longest_hold(self) -> float:
        """Seconds that the fleet holds at most, whoever asks for it."""
        return self._holds.longest

    @property
    def waited(self) -> float:
        """Seconds that the threads of this process waited for slots and to leave, all together."""
        return self._waiting.seconds

    def wait(self) -> Slot:
        """Take a slot that was given back, or reserve the next one and sleep until it.

        Raises SlotTooFar where it is further than `furthest`, PaceOutOfReach where Redis cannot be asked: unpaced,
        nothing goes out."""
        furthest = left = max(self._nearest, min(2 * self._threads / self.rate, LONGEST_WAIT))
        try:
            # Another process may have begun a hold since.
            if (spare := self._spares.take()) and not self._holds.is_held_past(spare[0]):
                return Slot(*spare)
            while True:
                left -= self._wait_alone(left)
                slot, wait = self._reserve(left)
                self._rest(wait)
                # A hold that came meanwhile stops those who had their slot already: they ask for another.
                if wait <= 0 or not self._holds.is_held_past(slot.at):
                    return slot
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            self._tell_why(error)
            raise PaceOutOfReach(furthest * 2) from error

    def give_back(self, slot: Slot) -> None:
        """Nothing was to be sent at this slot: whoever waits next in this process takes it, if that is soon."""
        self._spares.keep(slot)

    def leave(self) -> None:
        """Right before a request leaves: no closer to the last one than their slots were."""
        with self._waiting:
            self._spacing.leave()

    def answered(self, slot: Slot) -> None:
        """The request of this slot was let through."""
        self._untold.add(slot.at)

    def refused(self, slot: Slot, seconds: float, why: str = UNEXPLAINED) -> None:
        """The request of this slot was answered 429: the fleet holds, and its rate was too high."""
        self.hold(seconds, why)
        try:
            self._tell()
            self._rate.lower(slot.rate, slot.at / MICROSECONDS)
        except redis.RedisError:
            return

    def hold(self, seconds: float, why: str = UNEXPLAINED) -> None:
        """No slot for anyone in the next seconds; never shortens a hold."""
        self._holds.hold(seconds, why)

    def undelivered(self, seconds: float, why: str) -> None:
        """A request could not be delivered: the fleet holds, or this process alone where others deliver."""
        self._holds.undelivered(seconds, why)

    def lift(self) -> None:
        """End the fleet's hold, whatever asked for it. Raises redis.RedisError."""
        self._holds.lift()

    def held_for(self) -> float:
        """Seconds that the fleet's hold still lasts, 0 if there is none. Raises redis.RedisError."""
        return max(self.read().hold_left, self._holds.left)

    def read(self) -> Reading:
        """How it stands in Redis. Raises redis.RedisError."""
        return self._rate.read()

    def change(self, change: Change) -> Search:
        """Move the rate, whatever other processes do meanwhile; what it is after that. Raises redis.RedisError."""
        return self._rate.change(change)

    def _wait_alone(self, furthest: float) -> float:
        """Sleep while this process alone holds; for how long. No longer than for a slot, which others have meanwhile:
        one that handed back at once would take all messages out of the queue."""
        if not self._holds.left_alone:
            return 0.0
        # That is how it hears that a person has lifted the hold.
        self._tell()
        alone = self._holds.left_alone
        self._rest(min(alone, furthest))
        if alone > furthest:
            raise SlotTooFar(alone - furthest)
        return alone

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with self._waiting:
                self._sleep(seconds)

    def _reserve(self, furthest: float) -> tuple[Slot, float]:
        """A slot and the seconds until it."""
        reservation = self._ask(furthest)
        if reservation.outcome < 0:
            self._rate.change()
            reservation = self._ask(furthest)
        if reservation.is_look_due:
            self._rate.look()
        if reservation.outcome != 1:
            raise SlotTooFar(reservation.wait / MICROSECONDS)
        slot, interval = reservation.slot / MICROSECONDS, reservation.interval / MICROSECONDS
        self._spacing.took(slot, interval, is_crowded=reservation.wait > 0)
        wait = reservation.wait / MICROSECONDS
        return Slot(reservation.slot, 1 / interval, self._clock() + wait), wait

    def _ask(self, furthest: float) -> Reservation:
        reservation = self._holds.reserve(furthest, *self._untold.take())
        self._untold.count_since(reservation.counted_since)
        if reservation.outcome == 1:
            with self._counting:
                self.slots += 1
        return reservation

    def _tell_why(self, error: redis.RedisError) -> None:
        """Once a minute: no record is lost, but none gets further either, and a refusal does not pass by itself."""
        if self._complaint.is_due():
            # Not at the top: commands know of paces too, and tell of nothing by a log.
            import structlog

            structlog.get_logger().warning(
                "pace_out_of_reach",
                license=self.license,
                error=str(error),
                meanwhile="records go back and come again",
                cure="look with `oathbulk doctor`",
            )

    def _tell(self) -> None:
        """The answers so far, without a slot: -1 s away is none."""
        self._ask(-1.0)
