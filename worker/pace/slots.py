"""The fleet's pace: each request needs a slot, and all processes share the slots through Redis. The requests' outcomes
adjust the rate. Callers ask `Pace` for a slot. `Reservations` lets threads queue and asks Redis for their slots,
`Holds` remembers until when nothing may be sent, `Spacing` keeps late requests apart. The limits are per license and
rate group, and a license's environments share them:
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

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

# Longest wait of a thread for its slot, in seconds.
LONGEST_WAIT = 10.0
# The reason of a hold if nothing better is known.
UNEXPLAINED = "a worker asked for it"
# Why the fleet holds longer than requested.
CLOSED = "PingOne is refusing every request, so oathbulk asks less and less often"
# How often to try a change: if another process changed the rate first, ours is applied to its result.
TRIES = 5
# Seconds for which another thread's news of holds from Redis is recent enough, or the time of a trip to Redis if
# longer.
RECENT = 0.02
# Seconds by which a slot is given out early: few, so that a changed rate takes effect soon. A slot this much overdue is
# lost, since its request would come on top of those that are due. If Redis is far away, slots that fall due during a
# trip to it are given out too.
AHEAD = 0.1
# Longest trip to Redis that is compensated for, in seconds.
LONGEST_TRIP = 1.0
# Requests that may leave at once.
AT_ONCE = 3
# The fraction of the slots' interval at which late requests leave: slightly faster than their slots, so that they catch
# up, but not above the limit, since the rate stays below it by the same fraction.
CATCHING_UP = 0.995

# Makes a new search from the current one and Redis' state.
Change = Callable[[Search, Reading], Search]
# Returns the search that is remembered for the license, given the time in Redis; None if there is none.
Recall = Callable[[float], Search | None]


class Slot(NamedTuple):
    """Permission to send one request at the fleet's current rate. `at` is when it is due, in microseconds of Redis'
    clock; `rate` its requests a second; `due` is `at` in seconds of this process' monotonic clock, -inf if unknown."""

    at: int
    rate: float
    due: float = -math.inf


def _do_nothing(*_: object) -> None:
    return None


class Pace:
    """The pace of a license in one rate group; one object per process, shared by its threads. It begins with what
    `recall` returns, or else at `rate` requests a second, and never goes above `highest`.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round trips, or
    longer, up to LONGEST_WAIT, if the rate is so low that the `threads` of the process need it. No hold is longer than
    `longest_hold` seconds. No slot is given out more than `ahead` seconds before it is due. `on_alone` gets a sentence
    when this process could not deliver while another could; `on_lifted` is called when a person has ended a hold."""

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
        # The fleet's requests a second, as this process last knew them.
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
        """Longest hold of the fleet in seconds, no matter who asks for it."""
        return self._holds.longest

    def wait(self) -> Slot:
        """Take a slot that was given back, or reserve the next one and sleep until it is due. Raises SlotTooFar if it
        is further away than `furthest`, PaceOutOfReach if Redis cannot be asked: nothing is sent without a slot."""
        furthest = left = max(self.furthest, min(2 * self._threads / self.rate, LONGEST_WAIT))
        try:
            while True:
                slot, wait = self._reservations.reserve(left)
                if wait:
                    self._sleep(wait)
                # A hold that began meanwhile also stops threads with a slot: they ask for another.
                if not self._holds.is_held_past(slot.at):
                    return slot
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            self._log_out_of_reach(error)
            raise PaceOutOfReach(furthest * 2) from error

    def give_back(self, slot: Slot) -> None:
        """Give back an unused slot: the next thread of this process uses it, if it asks soon enough."""
        self._reservations.reserved.appendleft(slot)

    def wait_to_leave(self, slot: Slot) -> None:
        """Sleep, right before this slot's request leaves, to keep the distance of slots to the previous one."""
        self._spacing.wait_to_leave(1 / slot.rate)

    def report_answer(self, slot: Slot) -> None:
        """Note that this slot's request was accepted; the next reservation tells Redis."""
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
        """Give nobody in the fleet a slot for this many seconds; never shortens a hold."""
        self._holds.hold(seconds, why)

    def lift(self) -> None:
        """End the fleet's hold, whatever caused it. Raises redis.RedisError."""
        self._holds.lift()

    def read_hold_left(self) -> float:
        """Seconds left of the fleet's hold, 0 if there is none. Raises redis.RedisError."""
        return max(self.read().hold_left, self._holds.fleet_left)

    def read(self) -> Reading:
        """Read the state of the license from Redis. Raises redis.RedisError."""
        reading = self._state.read()
        self._holds.note_lifting(reading.last_lifting)
        if reading.search is not None:
            self._search, self.rate = reading.search, reading.search.rate
        return reading

    def change(self, change: Change = lambda search, _: search) -> Search:
        """Change the search in Redis, or write a first one if there is none; return the result. Raises
        redis.RedisError."""
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
        """Lower the rate after a refused request that had its slot at this rate, at this time in Redis. Return for how
        many seconds the fleet should hold because everything is refused; otherwise 0."""
        now = slot

        def learn(search: Search, reading: Reading) -> Search:
            nonlocal now
            now = reading.now
            resumes_at = max(reading.held_until, reading.next_slot, reading.now)
            changed = learn_from_refusal(search, rate, slot, reading.answers, resumes_at)
            # A refusal must not raise the rate above the highest.
            return replace(changed, rate=min(changed.rate, max(self._highest, search.rate)))

        search = self.change(learn)
        return max(search.begun_at - now, 0.0) if search.open_rate else 0.0

    def review(self) -> None:
        """Adjust the rate to the answers so far. One thread at a time does that; the others do not wait for it. Raises
        redis.RedisError."""
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
        """Return what this process knew before Redis forgot it; or what the database remembers; or the initial rate."""
        known = self._search or self._recall(now) or Search(self.rate)
        rate = known.rate if known.is_fixed else min(known.lasting_rate, self._highest)
        first = restart_counting(replace(known, rate=rate, refused_at=0.0), now)
        # Its times of refusals and climbs were by Redis' clock, which may have been wrong.
        return first if first.climb else hold_rate(first, first.probe_after)

    def _log_out_of_reach(self, error: redis.RedisError) -> None:
        """Log at most once a minute that Redis gives no slots: no record is lost, but none proceeds."""
        if self._log_interval.begin_if_over():
            # Not imported at the top: commands use paces too, but write no log.
            import structlog

            structlog.get_logger().warning(
                "pace_out_of_reach",
                license=self.license,
                error=str(error),
                meanwhile="records are handed back, and return later",
                cure="check with `oathbulk doctor`",
            )


def call_patiently(call: Callable[[], T], tries: int = 5) -> T:
    """Make the call, and repeat it while a hold or a busy fleet leaves no slot for it. Gives up only after failing to
    reach Redis `tries` times: then it raises PaceOutOfReach."""
    while True:
        try:
            return call()
        except SlotTooFar as far:
            tries -= isinstance(far, PaceOutOfReach)
            if not tries:
                raise
            # Workers take every slot as soon as it is near. Asking at another moment gets one.
            time.sleep(far.wait * random.uniform(0.5, 1))  # noqa: S311


class Reservations:
    """Reserves slots for one process, and reports its answers with each reservation. Thread-safe: threads queue here,
    so that no slot is given out long before it is due. The first thread also asks for slots for all threads behind it.
    `ahead`: seconds by which a slot is given out early. `clock` is the process' monotonic clock, in seconds."""

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
        # Threads in the queue; slots reserved for those behind the first, or given back.
        self._waiting = 0
        self.reserved = deque[Slot]()
        # Whether to adjust the rate to the answers so far.
        self._is_review_due = False
        # Answers not yet reported to Redis, the last of their slots, and the first slot whose answers count.
        self._answers = self._last = self._since = 0

    def reserve(self, furthest: float) -> tuple[Slot, float]:
        """Reserve the fleet's next slot once it is due within `ahead` seconds; return it and the seconds until it is
        due. Raises SlotTooFar if that exceeds `furthest` seconds; redis.RedisError."""
        until = self._clock() + furthest
        with self._counting:
            self._waiting += 1
        is_first = self._queue.acquire(timeout=furthest)
        try:
            if not is_first:
                raise SlotTooFar(furthest)
            slot = self._take_slot(until)
        finally:
            # Count down before the next thread asks, or it would ask for a slot for this one too.
            with self._counting:
                self._waiting -= 1
            if is_first:
                self._queue.release()
        # Review outside the queue, where no thread waits for its trips to Redis.
        if self._is_review_due:
            self._is_review_due = False
            self._pace.review()
        return slot, max(slot.due - self._clock(), 0.0)

    def _take_slot(self, until: float) -> Slot:
        """Take a slot that was reserved for this thread, or ask for one until one is due soon. Raises SlotTooFar,
        redis.RedisError."""
        # Slots of threads that gave up may be old, or from before a hold.
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
        """Ask Redis for the slots that are due soon, one for each thread in the queue. If Redis has no state, write one
        first. Raises SlotTooFar if it was wiped again."""
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
        """Count an answer to this slot's request, for the next reservation, unless the slot is older than the current
        rate."""
        with self._counting:
            if slot.at >= self._since:
                self._answers += 1
                self._last = max(self._last, slot.at)

    def report_answers(self) -> None:
        """Report the answers so far to Redis, and learn of holds, without a slot. Raises redis.RedisError."""
        self._ask(0.0, 0)

    def _ask(self, furthest: float, most: int) -> Reservation | None:
        """Ask Redis for this many slots within this many seconds, and report the answers so far; None if it has no
        state."""
        with self._counting:
            answers, self._answers = self._answers, 0
            last = self._last
        found = self._holds.reserve(furthest, most, answers, last)
        if found is None:
            return None
        with self._counting:
            if found.counted_since != self._since:
                # The rate has changed: the answers so far say nothing about the new one.
                self._since, self._answers, self._last = found.counted_since, 0, 0
        return found


class Holds:
    """The holds of a license: the one place where a process remembers them. Thread-safe. Asks for holds, learns of
    those of other processes, reports its own to Redis again after Redis was wiped, and ends them when a person says so.
    No hold is longer than `longest` seconds: after that the fleet asks PingOne again. `on_alone` is called with a
    sentence when this process alone failed; `on_lifted` when a person has ended a hold."""

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
        # By the process' clock, in case Redis is out of reach or forgets: the end of the hold that this process asked
        # for.
        self._fleet_until = -math.inf
        # Why this process asked the fleet to hold, in a sentence.
        self._why = ""
        # The end of the fleet's hold in microseconds of Redis' clock, and when Redis said so, by the process' clock.
        self._heard_until, self._heard_at = 0, -math.inf
        # When a person last ended a hold, as far as this process knows; 0 for never.
        self._last_lifting = 0
        self._trips = Trips(clock)

    @property
    def trip(self) -> float:
        """Seconds that a trip to Redis takes, LONGEST_TRIP at the most; 0 before the first one."""
        return min(self._trips.shortest or 0.0, LONGEST_TRIP)

    @property
    def fleet_left(self) -> float:
        """Seconds left of the hold that this process asked for; 0 if none."""
        with self._lock:
            return max(self._fleet_until - self._clock(), 0.0)

    def hold(self, seconds: float, why: str) -> None:
        """Give nobody in the fleet a slot for this many seconds; never shortens a hold. This process also remembers it,
        in case Redis is out of reach or forgets: the next reservation reports it again."""
        seconds = min(seconds, self.longest)
        if seconds <= 0:
            return
        self._extend(seconds, why)
        with suppress(redis.RedisError):
            if self.note_lifting(self._state.hold(seconds, why)):
                # A person has ended the earlier holds, not this one.
                self._extend(seconds, why)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """Hold the fleet after a request that could not be delivered. If another process delivers, nobody holds: this
        one's network is at fault, not PingOne, and `on_alone` is called."""
        seconds = min(seconds, self.longest)
        is_alone = False
        with suppress(redis.RedisError):
            is_alone, last_lifting = self._state.report_undelivered(seconds, why)
            self.note_lifting(last_lifting)
        if is_alone:
            self._on_alone(f"{why}, but other processes deliver")
        else:
            self._extend(seconds, why)

    def lift(self) -> None:
        """End the hold of the whole fleet. Raises redis.RedisError."""
        self.note_lifting(self._state.lift())

    def reserve(self, furthest: float, most: int, answers: int, last: int) -> Reservation | None:
        """Ask for slots, report a hold that Redis may have forgotten, and learn of the holds in Redis; None if it has
        no state. Raises redis.RedisError."""
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
        """Note when a person last ended a hold, as Redis says. If that is new, this process no longer holds, and the
        result is True."""
        with self._lock:
            if last_lifting in (0, self._last_lifting):
                return False
            self._last_lifting = last_lifting
            self._fleet_until = -math.inf
        self._on_lifted()
        return True

    def has_hold_after(self, slot: int, due: float) -> bool:
        """Whether a known hold, current or past, ends after this slot is due, which is at `due` by the process'
        clock."""
        with self._lock:
            return self._fleet_until > due or self._heard_until > slot

    def is_held_past(self, slot: int) -> bool:
        """Whether a hold now forbids sending at this slot. Raises redis.RedisError."""
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
    """Keeps the requests of one process apart, by the generic cell rate algorithm: after a stall that makes several
    miss their slots, they do not all leave at once. Thread-safe; times are in seconds."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._turn = threading.Lock()
        self._next = 0.0

    def wait_to_leave(self, interval: float) -> None:
        """Sleep until the next request may leave, for slots an `interval` apart. Threads do so one after the other:
        those behind a late one also wait for the rest of their gap."""
        with self._turn:
            now = self._clock()
            if self._next > now:
                self._sleep(self._next - now)
                now = self._clock()
            self._next = max(self._next, now - (AT_ONCE - 1) * interval) + CATCHING_UP * interval
