"""pingone: the fleet's pace. One slot at a time for one request, shared by every process through Redis.

The limits are per license and shared by its environments:
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import redis

from worker.pingone.errors import SlotTooFar

MICROSECONDS = 1_000_000

# GCRA without a burst: slots lie an interval apart, and none is saved up while nobody asks. All times in
# microseconds. KEYS[1]: the license's hash. ARGV: interval between slots (0 = reserve none), furthest slot
# worth waiting for, hold from now on (0 = none). Answers whether the next slot was reserved, when it is, and
# how far away that is. Redis' own clock is the only one here, so the fleet's clocks may differ. The rate
# comes with each call and may change. A hash that expires, or is wiped, says the same as one whose times are
# past. A hold that comes with a reservation is one that Redis may have forgotten: it counts only if none is
# in force, for repeated each time it would move by the time that the message takes.
PACE = """
local state = redis.call('HMGET', KEYS[1], 'next_at', 'held_until')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local next_at, held_until = tonumber(state[1] or 0), tonumber(state[2] or 0)
local interval, furthest, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if hold > 0 and (interval == 0 or held_until <= now) then held_until = math.max(held_until, now + hold) end
local slot = math.max(now, next_at, held_until)
local is_reserved = interval > 0 and slot - now <= furthest
if is_reserved then next_at = slot + interval end
if is_reserved or hold > 0 then
  redis.call('HSET', KEYS[1], 'next_at', string.format('%.0f', next_at),
             'held_until', string.format('%.0f', held_until))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (math.max(next_at, held_until) - now) / 1000 + 60000))
end
return {is_reserved and 1 or 0, slot, slot - now}
"""


class Pace:
    """One license's pace, at `rate` requests a second; one object a process, shared by its threads.

    `redis` should have a socket time-out: a wait lasts no longer than `furthest` seconds and a few round
    trips."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        rate: float,
        *,
        furthest: float = 2.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate
        self._redis = redis
        self._key = f"oathbulk:pace:{license}"
        self._script = redis.register_script(PACE)
        self._furthest = furthest
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._held_until = -math.inf

    def wait(self) -> None:
        """Reserve the next slot and sleep until it.

        Raises SlotTooFar where it is further than `furthest`, or Redis cannot be asked: unpaced, nothing goes
        out."""
        left = self._furthest
        try:
            while True:
                slot, wait = self._reserve(left)
                if wait > 0:
                    self._sleep(wait)
                # A hold that came meanwhile stops those who had their slot already: they ask for another.
                if wait <= 0 or not self._is_held_past(slot):
                    return
                left = max(left - wait, 0.0)
        except redis.RedisError as error:
            raise SlotTooFar(self._furthest * 2) from error

    def hold(self, seconds: float) -> None:
        """No slot for anyone in the next seconds; never shortens a hold. Kept here as well, for the case that
        Redis is out of reach or forgets: the next reservation tells it again."""
        if seconds <= 0:
            return
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)
        try:
            self._run(interval=0, furthest=0, hold=seconds)
        except redis.RedisError:
            return

    def held_for(self) -> float:
        """Seconds that the hold still lasts, 0 if there is none. Raises redis.RedisError."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.hget(self._key, "held_until")
            (seconds, microseconds), held_until = pipeline.execute()
        held_for: float = (int(held_until or 0) - seconds * MICROSECONDS - microseconds) / MICROSECONDS
        return max(held_for, self._held_here(), 0.0)

    def _reserve(self, furthest: float) -> tuple[int, float]:
        """A slot, in microseconds of Redis' clock, and the seconds until it."""
        interval = math.ceil(MICROSECONDS / self.rate)
        is_reserved, slot, wait = self._run(interval=interval, furthest=furthest, hold=self._held_here())
        if not is_reserved:
            raise SlotTooFar(wait / MICROSECONDS)
        return slot, wait / MICROSECONDS

    def _run(self, *, interval: int, furthest: float, hold: float) -> tuple[int, int, int]:
        arguments = [interval, int(furthest * MICROSECONDS), math.ceil(hold * MICROSECONDS)]
        is_reserved, slot, wait = self._script(keys=[self._key], args=arguments)
        return is_reserved, slot, wait

    def _is_held_past(self, slot: int) -> bool:
        held_until = self._redis.hget(self._key, "held_until")
        return self._held_here() > 0 or int(held_until or 0) > slot

    def _held_here(self) -> float:
        with self._lock:
            return max(self._held_until - self._clock(), 0.0)
