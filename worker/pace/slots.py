"""The fleet's pace: one slot at a time for one request, shared by every process through Redis. What comes of the
requests moves the rate.

The limits are per license and rate group, and shared by its environments:
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

import redis

from worker.clocks.waiting_time import WaitingTime
from worker.observability.log_interval import LogInterval
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.holds import Holds
from worker.pace.rate import Change, Rate, Recall
from worker.pace.rate_groups import RateGroup
from worker.pace.replies import Reading
from worker.pace.reservations import Reservations
from worker.pace.search import Search
from worker.pace.slot import Slot
from worker.pace.spacing import Spacing
from worker.pace.spare_slots import SpareSlots
from worker.pace.state import MICROSECONDS, PaceState

# Seconds that a thread waits for its slot at the most.
LONGEST_WAIT = 10.0
# Why a hold was asked for, where nothing better is known.
UNEXPLAINED = "a worker asked for it"
# Why the fleet holds for longer than it was asked to.
CLOSED = "PingOne refuses every request, so it is asked more and more rarely"


def _do_nothing(*_: object) -> None:
    return None


class Pace:
    """The pace of a license in one rate group; one object a process, shared by its threads. It begins with what
    `recall` returns, or else at `rate` requests a second, and never goes above `highest`.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round trips; longer
    where the rate is so low that the `threads` of the process need it, up to LONGEST_WAIT. No hold is longer than
    `longest_hold` seconds. `on_alone` is told, in a sentence, when this process could not deliver while another could,
    `on_lifted` when a person has lifted a hold."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        rate: float,
        group: RateGroup = RateGroup.MFA,
        *,
        highest: float = math.inf,
        recall: Recall = _do_nothing,
        furthest: float = 2.0,
        threads: int = 0,
        longest_hold: float = 120.0,
        on_alone: Callable[[str], object] = _do_nothing,
        on_lifted: Callable[[], object] = _do_nothing,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.license, self.group, self.redis, self.furthest = license, group, redis, furthest
        state = PaceState(redis, license, group, longest_wait=max(furthest, LONGEST_WAIT), longest_hold=longest_hold)
        self._threads, self._sleep = threads, sleep
        self._spacing, self._waiting = Spacing(sleep, clock), WaitingTime(clock)
        self._holds = Holds(state, longest_hold, clock, on_alone=on_alone, on_lifted=on_lifted)
        self._rate = Rate(state, self._holds, rate, highest, recall)
        self._reservations = Reservations(self._holds, self._rate, self._spacing, clock)
        self._spare_slots = SpareSlots(self._holds, clock)
        self._log_interval = LogInterval(clock=clock)

    @property
    def rate(self) -> float:
        """Requests a second of the fleet, as this process heard of it last."""
        return self._rate.rate

    @property
    def slots_taken(self) -> int:
        """Slots that this process was given so far."""
        return self._reservations.count

    @property
    def longest_hold(self) -> float:
        """Seconds that the fleet holds at the most, whoever asks for it."""
        return self._holds.longest

    @property
    def seconds_waited(self) -> float:
        """Seconds that the threads of this process waited for slots and to leave, all together."""
        return self._waiting.seconds

    def wait(self) -> Slot:
        """Take a slot that was given back, or reserve the next one and sleep until it is due.

        Raises SlotTooFar where it is further than `furthest`, PaceOutOfReach where Redis cannot be asked: unpaced,
        nothing goes out."""
        furthest = left = max(self.furthest, min(2 * self._threads / self.rate, LONGEST_WAIT))
        try:
            # Another process may have begun a hold since.
            if (spare := self._spare_slots.take()) and not self._holds.is_held_past(spare.at):
                return spare
            while True:
                left -= self._wait_for_own_hold(left)
                slot, wait = self._reservations.reserve(left)
                self._rest(wait)
                # A hold that came meanwhile stops those who had their slot already: they ask for another.
                if wait <= 0 or not self._holds.is_held_past(slot.at):
                    return slot
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            self._log_out_of_reach(error)
            raise PaceOutOfReach(furthest * 2) from error

    def give_back(self, slot: Slot) -> None:
        """Give back an unused slot: whoever waits next in this process takes it, if that is soon."""
        self._spare_slots.add(slot)

    def wait_to_leave(self) -> None:
        """Sleep, right before a request leaves, until it is no closer to the last one than their slots were."""
        with self._waiting:
            self._spacing.wait_to_leave()

    def report_answer(self, slot: Slot) -> None:
        """Note that the request of this slot was let through; the next reservation tells Redis."""
        self._reservations.add_answer(slot)

    def report_refusal(self, slot: Slot, seconds: float, why: str = UNEXPLAINED) -> None:
        """Hold the fleet and lower its rate, after the request of this slot was refused: its rate was too high."""
        self.hold(seconds, why)
        with suppress(redis.RedisError):
            self._reservations.report_answers()
            if closed_for := self._rate.lower(slot.rate, slot.at / MICROSECONDS):
                self.hold(closed_for, CLOSED)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """Hold the fleet after a request that could not be delivered; or this process alone, where others deliver."""
        self._holds.report_undelivered(seconds, why)

    def hold(self, seconds: float, why: str = UNEXPLAINED) -> None:
        """Give nobody in the fleet a slot in the next seconds; never shortens a hold."""
        self._holds.hold(seconds, why)

    def lift(self) -> None:
        """End the fleet's hold, whatever asked for it. Raises redis.RedisError."""
        self._holds.lift()

    def read_hold_left(self) -> float:
        """Seconds that the fleet's hold still lasts, 0 if there is none. Raises redis.RedisError."""
        return max(self.read().hold_left, self._holds.fleet_left)

    def read(self) -> Reading:
        """Read the state of the license from Redis. Raises redis.RedisError."""
        return self._rate.read()

    def change(self, change: Change) -> Search:
        """Change the search, whatever other processes do meanwhile; return the new one. Raises redis.RedisError."""
        return self._rate.change(change)

    def _wait_for_own_hold(self, furthest: float) -> float:
        """Sleep while this process alone holds, for `furthest` seconds at the most; return for how long. Raises
        SlotTooFar where it goes on holding after that.

        A process that handed its records back at once would take all messages out of the queue, although others have
        the slots for them."""
        if not self._holds.own_left:
            return 0.0
        # That is how it hears that a person has lifted the hold.
        self._reservations.report_answers()
        left = self._holds.own_left
        self._rest(min(left, furthest))
        if left > furthest:
            raise SlotTooFar(left - furthest)
        return left

    def _rest(self, seconds: float) -> None:
        """Sleep, and count it as time spent waiting."""
        if seconds > 0:
            with self._waiting:
                self._sleep(seconds)

    def _log_out_of_reach(self, error: redis.RedisError) -> None:
        """Log once a minute that Redis gives no slots: no record is lost, but none gets further either."""
        if self._log_interval.begin_if_over():
            # Not imported at the top: commands know of paces too, and write no log.
            import structlog

            structlog.get_logger().warning(
                "pace_out_of_reach",
                license=self.license,
                error=str(error),
                meanwhile="records go back and come again",
                cure="look with `oathbulk doctor`",
            )
