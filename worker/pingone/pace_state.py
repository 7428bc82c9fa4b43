"""pingone: what the fleet's processes know in common of a license's pace, kept in Redis.

The scripts keep the state and give out slots; what becomes of the rate is decided in worker.pingone.ceiling. All times
are in microseconds of Redis' own clock, so the clocks of the fleet may differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import redis

from worker.pingone.search import Search

MICROSECONDS = 1_000_000
# What is older than a day is no longer known; the database remembers the ceiling.
KEPT = 24 * 60 * 60 * 1000

# GCRA without a burst: slots lie an interval apart, and none is saved up while nobody asks. ARGV: furthest slot worth
# waiting for; hold from now on (0 = none); answers that came since the last reservation, and the last of their slots.
# A hold that comes with a reservation is one that Redis may have forgotten: it counts only if none is in force, for
# repeated each time it would move by the time that the message takes. An answer counts for the rate that its slot was
# of. -1: nobody has begun, or Redis was wiped.
RESERVE = """
local state = redis.call('HMGET', KEYS[1], 'interval', 'next_at', 'held_until', 'counted_since', 'look_from', 'last')
local interval = tonumber(state[1])
if not interval then return {-1, 0, 0, 0, 0, 0, 0} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local next_at, held_until = tonumber(state[2] or 0), tonumber(state[3] or 0)
local since, last = tonumber(state[4]), tonumber(state[6] or 0)
local furthest, hold = tonumber(ARGV[1]), tonumber(ARGV[2])
local answers, answered_last = tonumber(ARGV[3]), tonumber(ARGV[4])
local written = {}
if hold > 0 and held_until <= now then
  held_until = now + hold
  written = {'held_until', string.format('%.0f', held_until)}
end
local slot = math.max(now, next_at, held_until)
local is_reserved = slot - now <= furthest
if is_reserved then
  table.insert(written, 'next_at')
  table.insert(written, string.format('%.0f', slot + interval))
end
if answers > 0 and answered_last >= since then
  redis.call('HINCRBY', KEYS[1], 'answers', answers)
  if answered_last > last then
    last = answered_last
    table.insert(written, 'last')
    table.insert(written, string.format('%.0f', last))
  end
end
if #written > 0 then redis.call('HSET', KEYS[1], unpack(written)) end
return {is_reserved and 1 or 0, slot, slot - now, held_until, interval, since, last >= tonumber(state[5]) and 1 or 0}
"""

# ARGV: hold from now on. Never shortens a hold.
HOLD = """
local time = redis.call('TIME')
local held_until = time[1] * 1000000 + time[2] + ARGV[1]
held_until = math.max(held_until, tonumber(redis.call('HGET', KEYS[1], 'held_until') or 0))
redis.call('HSET', KEYS[1], 'held_until', string.format('%.0f', held_until))
if redis.call('PTTL', KEYS[1]) < ARGV[1] / 1000 + 60000 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[1] / 1000 + 60000))
end
"""

# ARGV: the version that the change was made from, milliseconds to keep it for, fields and values. 0: another was first.
WRITE = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'answers', 0, 'last', 0, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""


class Reservation(NamedTuple):
    """`outcome`: 1 reserved, 0 too far, -1 nobody has begun. The slot and how far away it is; until when the fleet
    holds; microseconds between slots; since when answers count; and whether there are enough for a look at the rate."""

    outcome: int
    slot: int
    wait: int
    held_until: int
    interval: int
    counted_since: int
    is_look_due: int


@dataclass(frozen=True, slots=True)
class Reading:
    """`search` is None where nobody has begun, or another version has. `answers` since `search.since`, the last of them
    to a slot at `last`; all slots before `next_slot` are given out. Times in seconds."""

    search: Search | None
    version: int
    answers: int
    last: float
    now: float
    held_until: float
    next_slot: float


class PaceState:
    """One license's state. Every method raises redis.RedisError."""

    def __init__(self, redis: redis.Redis, license: str) -> None:
        self._redis = redis
        self._keys = [f"oathbulk:pace:{license}"]
        self._reserve, self._hold, self._write = map(redis.register_script, (RESERVE, HOLD, WRITE))

    def reserve(self, furthest: float, hold: float, answers: int, last: int) -> Reservation:
        """`furthest` and `hold` in seconds, `last` in microseconds."""
        arguments = [int(furthest * MICROSECONDS), math.ceil(hold * MICROSECONDS), answers, last]
        return Reservation(*self._reserve(keys=self._keys, args=arguments))

    def hold(self, seconds: float) -> None:
        self._hold(keys=self._keys, args=[math.ceil(seconds * MICROSECONDS)])

    def held_until(self) -> int:
        return int(self._redis.hget(self._keys[0], "held_until") or 0)

    def read(self) -> Reading:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(self._keys[0])
            (seconds, microseconds), state = pipeline.execute()
        kept = {_text(name): _text(value) for name, value in state.items()}
        return Reading(
            _search(kept),
            int(kept.get("version", 0)),
            int(kept.get("answers", 0)),
            int(kept.get("last", 0)) / MICROSECONDS,
            seconds + microseconds / MICROSECONDS,
            int(kept.get("held_until", 0)) / MICROSECONDS,
            int(kept.get("next_at", 0)) / MICROSECONDS,
        )

    def write(self, search: Search, version: int) -> bool:
        """False: the state is no longer of this version."""
        values: dict[str, float] = {name: float(value) for name, value in asdict(search).items()}
        values |= {
            "interval": math.ceil(MICROSECONDS / search.rate),
            "counted_since": int(search.since * MICROSECONDS),
            "look_from": int(search.look_at * MICROSECONDS),
        }
        pairs = [part for pair in values.items() for part in pair]
        return bool(self._write(keys=self._keys, args=[version, KEPT, *pairs]))


def _search(kept: Mapping[str, str]) -> Search | None:
    """None where nobody has begun, or another version has, which knew other fields."""
    if not kept.keys() >= {"interval", *(field.name for field in fields(Search))}:
        return None
    values: dict[str, Any] = {field.name: float(kept[field.name]) for field in fields(Search)}
    return Search(**values | {name: bool(values[name]) for name in ("has_fallen", "is_fixed")})


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
