"""The fleet's pace: one slot at a time for one request, shared by every process through Redis. What comes of the
requests moves the rate.

Who waits asks `Pace` for a slot. `Reservations` lets threads queue and asks Redis for their slots, `Holds` remembers
until when nothing goes out, `Spacing` keeps requests apart that leave late. The limits are per
license and rate group, and shared by its environments:
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar

import redis

from worker.clocks import LogInterval, Trips
from worker.pace.redis_state import MICROSECONDS, PaceState, Reading, Reservation
from worker.pace.search import (
    PaceOutOfReach,
    RateGroup,
    Search,
    SlotTooFar,
    hold_rate,
    learn_from_answers,
    learn_from_refusal,
    restart_counting,
)

T = TypeVar("T")

# Seconds that a thread waits for its slot at the most.
LONGEST_WAIT = 10.0
# Why a hold was asked for, where nothing better is known.
UNEXPLAINED = "a worker asked for it"
# Why the fleet holds for longer than it was asked to.
CLOSED = "PingOne refuses every request, so it is asked more and more rarely"
# How often a change is tried: where another process has changed the rate first, ours is made again upon theirs.
TRIES = 5
# Seconds for which what Redis told another thread of a hold is recent enough; or as long as it takes to ask.
RECENT = 0.02
# Seconds before it is due in which a slot is given out, so that a rate that has moved counts for what leaves soon. So
# many seconds after it was due it is lost, since its request would come on top of what is due by then. Where Redis is
# far away, those that fall due during a trip to it are given out too.
AHEAD = 0.1
# Seconds of a trip to Redis that are made up for at the most.
LONGEST_TRIP = 1.0
# Requests that may leave at once.
AT_ONCE = 3
# The part of the slots' distance at which the requests behind those leave: a little faster than their slots, so that
# they do not lag for ever, and not above the limit, for the rate is kept below it by as little.
CATCHING_UP = 0.995

# Makes another search of the present one and of what Redis says.
Change = Callable[[Search, Reading], Search]
# Returns what is remembered of the license's limit, for the time in Redis; None where nothing is.
Recall = Callable[[float], Search | None]


class Slot(NamedTuple):
    """Leave to send one request, at the fleet's rate of that moment.

    `at` is when it is due, in microseconds of Redis' clock; `rate` the requests a second that it was given at; `due` is
    `at` in seconds of this process' monotonic clock, -inf where that is not known."""

    at: int
    rate: float
    due: float = -math.inf


def _do_nothing(*_: object) -> None:
    return None


class Pace:
    """The pace of a license in one rate group; one object a process, shared by its threads. It begins with what
    `recall` returns, or else at `rate` requests a second, and never goes above `highest`.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round trips; longer
    where the rate is so low that the `threads` of the process need it, up to LONGEST_WAIT. No hold is longer than
    `longest_hold` seconds. No slot is given out more than `ahead` seconds before it is due. `on_alone` is told, in a
    sentence, when this process could not deliver while another could, `on_lifted` when a person has lifted a hold."""

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
        installation: str = "",
        ahead: float = AHEAD,
        on_alone: Callable[[str], object] = _do_nothing,
        on_lifted: Callable[[], object] = _do_nothing,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.license, self.group, self.redis, self.furthest = license, group, redis, furthest
        self.installation = installation
        # Requests a second of the fleet, as this process heard of it last.
        self.rate = rate
        longest_wait = max(furthest, LONGEST_WAIT)
        state = PaceState(
            redis, license, group, longest_wait=longest_wait, longest_hold=longest_hold, installation=installation
        )
        self._state, self._highest, self._recall = state, max(highest, rate), recall
        self._threads, self._sleep = threads, sleep
        self._spacing = Spacing(sleep, clock)
        self._holds = Holds(state, longest_hold, clock, on_alone=on_alone, on_lifted=on_lifted)
        self._reservations = Reservations(self._holds, self, ahead, sleep, clock)
        self._log_interval = LogInterval(clock=clock)
        self._search: Search | None = None
        self._reviewing = threading.Lock()

    @property
    def longest_hold(self) -> float:
        """Seconds that the fleet holds at the most, whoever asks for it."""
        return self._holds.longest

    def wait(self) -> Slot:
        """Take a slot that was given back, or reserve the next one and sleep until it is due.

        Raises SlotTooFar where it is further than `furthest`, PaceOutOfReach where Redis cannot be asked: unpaced,
        nothing goes out."""
        furthest = left = max(self.furthest, min(2 * self._threads / self.rate, LONGEST_WAIT))
        try:
            while True:
                slot, wait = self._reservations.reserve(left)
                if wait:
                    self._sleep(wait)
                # A hold that came meanwhile stops those who had their slot already: they ask for another.
                if not self._holds.is_held_past(slot.at):
                    return slot
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            self._log_out_of_reach(error)
            raise PaceOutOfReach(furthest * 2) from error

    def give_back(self, slot: Slot) -> None:
        """Give back an unused slot: whoever waits next in this process takes it, if that is soon."""
        self._reservations.reserved.appendleft(slot)

    def wait_to_leave(self, slot: Slot) -> None:
        """Sleep, right before the request of this slot leaves, until it is no closer to the last one than slots are."""
        self._spacing.wait_to_leave(1 / slot.rate)

    def report_answer(self, slot: Slot) -> None:
        """Note that the request of this slot was let through; the next reservation tells Redis."""
        self._reservations.add_answer(slot)

    def report_refusal(self, slot: Slot, seconds: float, why: str = UNEXPLAINED) -> None:
        """Hold the fleet and lower its rate, after the request of this slot was refused: its rate was too high."""
        self.hold(seconds, why)
        with suppress(redis.RedisError):
            self._reservations.report_answers()
            if closed_for := self._lower(slot.rate, slot.at / MICROSECONDS):
                self.hold(closed_for, CLOSED)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """Hold the fleet after a request that could not be delivered, unless others deliver."""
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
        reading = self._state.read()
        self._holds.note_lifting(reading.last_lifting)
        if reading.search is not None:
            self._search, self.rate = reading.search, reading.search.rate
        return reading

    def change(self, change: Change = lambda search, _: search) -> Search:
        """Change the search in Redis, or write a first one where there is none; return it as it is after that.
        Raises redis.RedisError."""
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

    def _lower(self, rate: float, slot: float) -> float:
        """Lower the rate after a refusal of a request that had its slot at this rate, at this time in Redis. Return
        for how many seconds the fleet had better hold, since everything is refused; 0 where it is not."""
        now = slot

        def learn(search: Search, reading: Reading) -> Search:
            nonlocal now
            now = reading.now
            resumes_at = max(reading.held_until, reading.next_slot, reading.now)
            changed = learn_from_refusal(search, rate, slot, reading.answers, resumes_at)
            # A refusal raises no rate above the highest.
            return replace(changed, rate=min(changed.rate, max(self._highest, search.rate)))

        search = self.change(learn)
        return max(search.begun_at - now, 0.0) if search.open_rate else 0.0

    def review(self) -> None:
        """Move the rate by what was answered so far. One thread does that at a time; the others go on without.
        Raises redis.RedisError."""
        if self._reviewing.acquire(blocking=False):
            try:
                self.change(
                    lambda search, reading: learn_from_answers(
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


def call_patiently(call: Callable[[], T], tries: int = 5) -> T:
    """Make the call, again and again while a hold or a busy fleet leaves no slot for it. Only where Redis is out of
    reach it gives up, after so many `tries`: then it raises PaceOutOfReach."""
    while True:
        try:
            return call()
        except SlotTooFar as far:
            tries -= isinstance(far, PaceOutOfReach)
            if not tries:
                raise
            # Workers take every slot as soon as it is near. Whoever asks at another moment than they gets one.
            time.sleep(far.wait * random.uniform(0.5, 1))  # noqa: S311


class Reservations:
    """Reserves slots for one process, and reports its answers with each reservation. Thread-safe: threads queue here,
    and not for slots of their own that were given out long before they are due. Who is the first asks for all who wait
    behind it.

    `ahead`: seconds before it is due in which a slot is given out. `clock` is the process' monotonic one, in
    seconds."""

    def __init__(
        self,
        holds: Holds,
        pace: Pace,
        ahead: float,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._holds, self._pace = holds, pace
        self._ahead, self._sleep, self._clock = ahead, sleep, clock
        self._queue, self._counting = threading.Lock(), threading.Lock()
        # Threads in the queue; slots that were reserved for those behind the first, or given back.
        self._waiting = 0
        self.reserved = deque[Slot]()
        # Whether the rate is to be moved by what was answered so far.
        self._is_review_due = False
        # Answers that Redis has not been told of yet, the last of their slots, and since which slot they count.
        self._answers = self._last = self._since = 0

    def reserve(self, furthest: float) -> tuple[Slot, float]:
        """Reserve the fleet's next slot as soon as it is due within `ahead` seconds; return it and the seconds until it
        is due. Raises SlotTooFar where that is more than `furthest` seconds away; redis.RedisError."""
        until = self._clock() + furthest
        with self._counting:
            self._waiting += 1
        is_first = self._queue.acquire(timeout=furthest)
        try:
            if not is_first:
                raise SlotTooFar(furthest)
            slot = self._take_slot(until)
        finally:
            # Before the next thread asks, or it would ask for this one too.
            with self._counting:
                self._waiting -= 1
            if is_first:
                self._queue.release()
        # Outside the queue, where nobody waits for its trips to Redis.
        if self._is_review_due:
            self._is_review_due = False
            self._pace.review()
        return slot, max(slot.due - self._clock(), 0.0)

    def _take_slot(self, until: float) -> Slot:
        """Take a slot that was reserved for this thread, or ask for one until it is due soon. Raises SlotTooFar,
        redis.RedisError."""
        # Those of threads that waited no longer may be old, or from before a hold.
        while self.reserved and self._is_lost(self.reserved[0]):
            self.reserved.popleft()
        while not self.reserved:
            found = self._ask_for_slots(until - self._clock())
            wait, interval = found.wait / MICROSECONDS, found.interval / MICROSECONDS
            due = self._clock() + wait
            self.reserved.extend(
                Slot(found.slot + number * found.interval, 1 / interval, due + number * interval)
                for number in range(found.reserved)
            )
            if not found.reserved:
                if due > until:
                    raise SlotTooFar(wait)
                self._sleep(wait - self._ahead / 2)
        return self.reserved.popleft()

    def _is_lost(self, slot: Slot) -> bool:
        return slot.due < self._clock() - self._ahead or self._holds.has_hold_after(slot.at, slot.due)

    def _ask_for_slots(self, furthest: float) -> Reservation:
        """Ask Redis for the slots that are due soon, one for each thread in the queue. Where it has no state, write one
        first. Raises SlotTooFar where it has been wiped again."""
        soon = max(min(furthest, self._ahead + self._holds.trip), 0.0)
        found = self._ask(soon, self._waiting)
        if found is None:
            self._pace.change()
            found = self._ask(soon, self._waiting)
        if found is None:
            raise SlotTooFar(0.0)
        self._is_review_due = bool(found.is_review_due)
        return found

    def add_answer(self, slot: Slot) -> None:
        """Count an answer to the request of this slot, to be reported with the next reservation; not where the slot is
        older than the present rate."""
        with self._counting:
            if slot.at >= self._since:
                self._answers += 1
                self._last = max(self._last, slot.at)

    def report_answers(self) -> None:
        """Tell Redis of the answers so far, and hear of holds, without a slot. Raises redis.RedisError."""
        self._ask(0.0, 0)

    def _ask(self, furthest: float, most: int) -> Reservation | None:
        """Ask Redis for so many slots that are no further away than so many seconds, and pass on the answers so far;
        None if it has no state."""
        with self._counting:
            answers, self._answers = self._answers, 0
            last = self._last
        found = self._holds.reserve(furthest, most, answers, last)
        if found is None:
            return None
        with self._counting:
            if found.counted_since != self._since:
                # The rate has changed: the answers so far tell nothing of the new one.
                self._since, self._answers, self._last = found.counted_since, 0, 0
        return found


class Holds:
    """The holds of a license: the one place where a process remembers them. Thread-safe.

    The process asks for a hold, hears of others', tells Redis again after it was wiped, and ends them when a person
    says so. No hold is longer than `longest` seconds, whoever asks for it: after that the fleet asks PingOne again.
    `on_alone` is called with a sentence when this process failed where others do not; `on_lifted` when a person has
    lifted a hold."""

    def __init__(
        self,
        state: PaceState,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_alone: Callable[[str], object],
        on_lifted: Callable[[], object],
    ) -> None:
        self.longest = longest
        self._state, self._clock = state, clock
        self._on_alone, self._on_lifted = on_alone, on_lifted
        self._lock = threading.Lock()
        # By the process' clock, in case Redis is out of reach or forgets: until when the fleet holds, as far as this
        # process asked for it.
        self._fleet_until = -math.inf
        # Why this process asked the fleet to hold, in a sentence.
        self._why = ""
        # Until when the fleet holds, in microseconds of Redis' clock, and when Redis said so, by the process' clock.
        self._heard_until, self._heard_at = 0, -math.inf
        # When a person lifted a hold last, as far as this process has heard; 0 for never.
        self._last_lifting = 0
        self._trips = Trips(clock)

    @property
    def trip(self) -> float:
        """Seconds that a trip to Redis takes, LONGEST_TRIP at the most; 0 before the first one."""
        return min(self._trips.shortest or 0.0, LONGEST_TRIP)

    @property
    def fleet_left(self) -> float:
        """Seconds that the fleet's hold still lasts, as far as this process asked for it; 0 if it did not."""
        with self._lock:
            return max(self._fleet_until - self._clock(), 0.0)

    def hold(self, seconds: float, why: str) -> None:
        """Give nobody in the fleet a slot in the next seconds; never shortens a hold.

        This process remembers it as well, in case that Redis is out of reach or forgets: the next reservation tells
        Redis again."""
        seconds = min(seconds, self.longest)
        if seconds <= 0:
            return
        self._extend(seconds, why)
        with suppress(redis.RedisError):
            if self.note_lifting(self._state.hold(seconds, why)):
                # A person has lifted the holds of before, not this one.
                self._extend(seconds, why)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """Hold the fleet after a request that could not be delivered. Where another process delivers, nobody holds: the
        network of this one is at fault, not PingOne, and `on_alone` is told."""
        seconds = min(seconds, self.longest)
        is_alone = False
        with suppress(redis.RedisError):
            is_alone, last_lifting = self._state.report_undelivered(seconds, why)
            self.note_lifting(last_lifting)
        if is_alone:
            self._on_alone(f"{why}, and other processes deliver")
        else:
            self._extend(seconds, why)

    def lift(self) -> None:
        """End the hold of the whole fleet. Raises redis.RedisError."""
        self.note_lifting(self._state.lift())

    def reserve(self, furthest: float, most: int, answers: int, last: int) -> Reservation | None:
        """Ask for slots, tell Redis of a hold that it may have forgotten, and hear of the holds that it knows; None if
        it has no state. Raises redis.RedisError."""
        left = self.fleet_left
        why = self._why if left else ""
        found = self._trips.measure(
            lambda: self._state.reserve(furthest, most, left, answers, last, why, self._last_lifting)
        )
        if found is not None:
            with self._lock:
                self._heard_until, self._heard_at = found.held_until, self._clock()
            self.note_lifting(found.last_lifting)
        return found

    def note_lifting(self, last_lifting: int) -> bool:
        """Note when a person lifted a hold last, as Redis says. If that is news, this process holds no longer; then
        True."""
        with self._lock:
            if last_lifting in (0, self._last_lifting):
                return False
            self._last_lifting = last_lifting
            self._fleet_until = -math.inf
        self._on_lifted()
        return True

    def has_hold_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of, over by now or not, ends after this slot was due: at `due` by the
        process' clock."""
        with self._lock:
            return self._fleet_until > due or self._heard_until > slot

    def is_held_past(self, slot: int) -> bool:
        """Whether a hold forbids to send at this slot by now. Raises redis.RedisError."""
        if self.fleet_left > 0:
            return True
        with self._lock:
            if self._clock() - self._heard_at < max(RECENT, self.trip):
                return self._heard_until > slot
        return self._state.read_held_until() > slot

    def _extend(self, seconds: float, why: str) -> None:
        with self._lock:
            until = self._clock() + seconds
            if until > self._fleet_until:
                self._fleet_until, self._why = until, why


class Spacing:
    """How far apart the requests of one process leave, by the generic cell rate algorithm: a stall lets several miss
    their slots, and they do not leave all at once after it. Thread-safe; times are in seconds."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._turn = threading.Lock()
        self._next = 0.0

    def wait_to_leave(self, interval: float) -> None:
        """Sleep until the next request may leave, where slots lie an `interval` apart.

        Threads do so one after the other: those behind one that wakes too late wait for what is left of their gap too,
        and do not all leave with it."""
        with self._turn:
            now = self._clock()
            if self._next > now:
                self._sleep(self._next - now)
                now = self._clock()
            self._next = max(self._next, now - (AT_ONCE - 1) * interval) + CATCHING_UP * interval
