"""The shared state of a license's pace, in Redis, one hash for each license. Scripts keep the state and give out slots,
each atomically; worker.pace.search decides how the rate moves. All times are in microseconds of Redis' own clock, so
the clocks of the fleet may differ.

ARGV[1] and ARGV[2] of each script are bounds, in microseconds: the longest wait for a slot, and the longest hold. A
state with later times was written while Redis' clock was ahead: it is unsound."""

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import redis

from worker.pace.search import Leg, Path, RateGroup, Search

# Microseconds in a second.
MICROSECONDS = 1_000_000
# Milliseconds for which Redis keeps an unchanged state: after a day it is outdated, and the database remembers the
# ceiling.
KEPT_MILLISECONDS = 24 * 60 * 60 * 1000
# Smallest relative growth per second. A slower climb cannot be right: its next review would be later than the scripts
# accept.
LEAST_CLIMB = 0.001
# Seconds for which another process's delivery shows that PingOne is reachable.
DELIVERED_WITHIN = 10.0
# Seconds between a process's reports to Redis that it delivers.
DELIVERY_TOLD_EVERY = 1.0

# The start of every script: its bounds, the time, and an empty list of fields to write.
BEGINNING = """
local longest_wait, longest_hold = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local written = {}
"""

# The condition for a sound state. A comparison with NaN is false, so a state with NaN is unsound too. A review of the
# rate is due at most a few seconds after counting began.
IS_SOUND = """
  interval > 0 and next_at - now <= longest_wait + interval and held_until - now <= longest_hold
    and since - now <= math.max(longest_wait + interval, longest_hold)
    and look_from - now <= math.max(longest_wait + interval, longest_hold) + 10000000
"""

# Functions that add a field and its value to the list of fields to write.
WRITING = """
local function write(name, text)
  written[#written + 1] = name
  written[#written + 1] = text
end
local function write_time(name, microseconds) write(name, string.format('%.0f', microseconds)) end
"""

# A function that holds the fleet, and returns when a person last ended a hold, 0 for never. It never shortens a hold. A
# hold reported again a moment later keeps its reason.
HOLDING = (
    WRITING
    + """
local function hold(microseconds, why)
  local state = redis.pcall('HMGET', KEYS[1], 'held_until', 'lifted')
  if state.err then
    redis.call('DEL', KEYS[1])
    state = {}
  end
  local before, held_until = tonumber(state[1] or 0) or 0, now + microseconds
  if not (before - now <= longest_hold) then before = 0 end
  if held_until > before then
    write_time('held_until', held_until)
    if before <= now then write_time('held_since', now) end
    if before <= now or held_until > before + 1000000 then write('held_why', why) end
    redis.call('HSET', KEYS[1], unpack(written))
  end
  if redis.call('PTTL', KEYS[1]) < microseconds / 1000 + 60000 then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', microseconds / 1000 + 60000))
  end
  return tonumber(state[2] or 0) or 0
end
"""
)

# Reserves slots, by the generic cell rate algorithm (GCRA) without a burst: slots are an interval apart, and do not
# accumulate while nobody asks for them.
#
# ARGV after the bounds: the hold from now on (0 = none), its reason, and the last lifting that the process has heard
# of; the number of answers that came since its last reservation, the last of their slots, and the process that received
# them (empty if Redis was told so a moment ago); then how far away slots may be, and how many to reserve.
#
# A hold that comes with a reservation is one that Redis may have forgotten. It counts only if no hold is set, since
# each repetition would move its end by the time that the message takes, and only if no person has lifted it since. An
# answer counts only for the rate at which its slot was given out.
#
# Returns nothing if there is no sound state: nobody has begun, Redis was wiped, or its state is unsound. Otherwise
# returns the fields of Reservation.
RESERVE = (
    BEGINNING
    + """
local state = redis.pcall(
  'HMGET', KEYS[1], 'interval', 'next_at', 'held_until', 'counted_since', 'look_from', 'last', 'lifted', 'slots')
if state.err then return {} end
local interval = tonumber(state[1]) or 0
local next_at, held_until = tonumber(state[2] or 0) or math.huge, tonumber(state[3] or 0) or math.huge
local since, look_from = tonumber(state[4]) or math.huge, tonumber(state[5]) or math.huge
if not (
"""
    + IS_SOUND
    + """
) then return {} end
local last, lifted = tonumber(state[6] or 0) or 0, tonumber(state[7] or 0) or 0
local hold, answers, answered_last = tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
if answers > 0 and answered_last >= since then
  local counted = redis.pcall('HINCRBY', KEYS[1], 'answers', answers)
  if type(counted) == 'table' then return {} end
  if answered_last > last then
    last = answered_last
    written = {'last', string.format('%.0f', last)}
  end
end
if ARGV[8] ~= '' then
  for _, part in ipairs({'delivered_by', ARGV[8], 'delivered_at', string.format('%.0f', now)}) do
    table.insert(written, part)
  end
end
if hold > 0 and held_until <= now and (lifted == 0 or lifted == tonumber(ARGV[5])) then
  held_until = now + hold
  for _, part in ipairs({'held_until', string.format('%.0f', held_until), 'held_since', string.format('%.0f', now),
    'held_why', ARGV[4]}) do
    table.insert(written, part)
  end
end
local slot = math.max(now, next_at, held_until)
local reserved = math.floor((now + tonumber(ARGV[9]) - slot) / interval) + 1
reserved = math.max(math.min(reserved, tonumber(ARGV[10])), 0)
if reserved > 0 then
  for _, part in ipairs({'next_at', string.format('%.0f', slot + reserved * interval),
    'slots', string.format('%.0f', (tonumber(state[8] or 0) or 0) + reserved)}) do
    table.insert(written, part)
  end
end
if #written > 0 then redis.call('HSET', KEYS[1], unpack(written)) end
return {held_until, interval, since, last >= look_from and 1 or 0, lifted, reserved, slot, slot - now}
"""
)

# Holds the fleet. ARGV after the bounds: the hold from now on, and its reason. Returns when a person last ended a hold.
HOLD = (
    BEGINNING
    + HOLDING
    + """
return hold(tonumber(ARGV[3]), ARGV[4])
"""
)

# Holds the fleet after a request could not be delivered, unless another process delivers. ARGV after the bounds: as for
# HOLD; the process that could not deliver; and how long another's delivery shows that PingOne is reachable. Returns 1
# if only this process fails, so that the fleet does not hold, or 0 if the fleet holds now; and when a person last ended
# a hold.
REPORT_UNDELIVERED = (
    BEGINNING
    + HOLDING
    + """
local state = redis.pcall('HMGET', KEYS[1], 'delivered_by', 'delivered_at', 'lifted')
if not state.err and state[1] and state[1] ~= ARGV[5] then
  local ago = now - (tonumber(state[2]) or math.huge)
  if ago >= 0 and ago <= tonumber(ARGV[6]) then return {1, tonumber(state[3] or 0) or 0} end
end
return {0, hold(tonumber(ARGV[3]), ARGV[4])}
"""
)

# Ends the fleet's hold. ARGV after the bounds: milliseconds for which to keep a new state. Returns when the hold was
# ended, a different number each time, even if Redis is wiped in between.
LIFT = (
    BEGINNING
    + """
local lifted = math.max(now, (tonumber(redis.call('HGET', KEYS[1], 'lifted') or 0) or 0) + 1)
redis.call('HDEL', KEYS[1], 'held_until', 'held_since', 'held_why')
redis.call('HSET', KEYS[1], 'lifted', string.format('%.0f', lifted))
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return lifted
"""
)

# Returns the time, and the state as a list of fields and values. An unsound state is removed, so that the next process
# writes a new one; a sound hold in it stays.
READ = (
    BEGINNING
    + WRITING
    + """
local TEXTS = {held_why = true, delivered_by = true, path = true}
local INTEGERS = {version = true, answers = true, slots = true}
local state, kept, is_good = redis.pcall('HGETALL', KEYS[1]), {}, true
if state.err then state, is_good = {}, false end
for at = 1, #state, 2 do
  local name, text = state[at], state[at + 1]
  local pattern = INTEGERS[name] and '^%d+$' or '^-?%d+%.?%d*[eE]?[-+]?%d*$'
  kept[name] = text
  if not TEXTS[name] and not (string.match(text, pattern) and tonumber(text)) then is_good = false end
end
local function number(name, missing) return tonumber(kept[name] or missing) or math.huge end
local held_until = number('held_until', 0)
local is_hold_sound = held_until - now <= longest_hold
if kept.interval then
  local interval, next_at = number('interval'), number('next_at', 0)
  local since, look_from = number('counted_since', 'none'), number('look_from', 'none')
  is_good = is_good and
"""
    + IS_SOUND
    + """
end
if not (is_good and is_hold_sound) then
  redis.call('DEL', KEYS[1])
  state = {}
  if is_hold_sound and held_until > now then
    write_time('held_until', held_until)
    write_time('held_since', now)
    write('held_why', kept.held_why or '')
    state = written
    redis.call('HSET', KEYS[1], unpack(written))
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (held_until - now) / 1000 + 60000))
  end
end
return {time[1], time[2], state}
"""
)

# Writes a changed search. ARGV: the version that the change is based on, milliseconds to keep the state, how many slots
# the change knew of, fields and values. Slots given out since then count for the next change. Returns 1, or 0 if
# another process was first.
WRITE = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) ~= tonumber(ARGV[1]) then return 0 end
local slots = (tonumber(redis.call('HGET', KEYS[1], 'slots') or 0) or 0) - tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'answers', 0, 'last', 0,
  'slots', string.format('%.0f', math.max(slots, 0)), unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""


class Reservation(NamedTuple):
    """Redis' answer to a process that asks for slots, or for none. Times are in microseconds."""

    # Until when the fleet holds.
    held_until: int
    # The time between two slots.
    interval: int
    # Since when answers count for the current rate.
    counted_since: int
    # 1 if there are enough answers to review the rate, otherwise 0.
    is_review_due: int
    # When a person last ended a hold, 0 for never.
    last_lifting: int
    # How many slots are reserved, an interval apart: fewer than requested if the others are too far away.
    reserved: int
    # When the first slot is due, reserved or not.
    slot: int
    # How far away that slot is.
    wait: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A license's state as read from Redis. Times are in seconds of Redis' clock."""

    # None if Redis has no search, or one from another program version.
    search: Search | None
    # Grows with each change, so that no process overwrites another's.
    version: int
    # Answers to slots since `search.since`.
    answers: int
    # The last of these slots.
    last: float
    now: float
    # When the fleet's hold ends; 0, or a time in the past, if there is none.
    held_until: float
    # All slots before this one are given out.
    next_slot: float
    # The start and the reason, in a sentence, of the hold that lasts until `held_until`.
    held_since: float = 0.0
    held_why: str = ""
    # When a person last ended a hold, in microseconds; a different number each time, 0 for never.
    last_lifting: int = 0
    # Slots that were given out since `search.since`.
    slots: int = 0

    @property
    def hold_left(self) -> float:
        """Seconds left of the fleet's hold, 0 if there is none."""
        return max(self.held_until - self.now, 0.0)


class PaceState:
    """The state of one rate group of a license in Redis, as one process reads and changes it. Every method raises
    redis.RedisError.

    `longest_wait` and `longest_hold`, in seconds: nobody reserves a slot further away, or asks for a longer hold. A
    state with times beyond these is unsound, and is replaced. `installation`: the id of the pace's installation;
    another installation may use the same Redis, with its own limits and holds."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        group: RateGroup = RateGroup.MFA,
        *,
        longest_wait: float,
        longest_hold: float,
        installation: str = "",
    ) -> None:
        # The number is the version of the fields: workers of the previous version, with other fields, have their own
        # state during an update. A license may have any name, so the keys of groups have another prefix.
        name = "pace-4" if group is RateGroup.MFA else f"pace-4-of-{group}"
        self._keys = [f"oathbulk:{installation}:{name}:{license}"]
        self._redis = redis
        self._delivery_told_at = -math.inf
        self._process = uuid.uuid4().hex
        # One second more, for rounded times.
        self._bounds = [math.ceil(longest_wait * MICROSECONDS), math.ceil((longest_hold + 1) * MICROSECONDS)]
        scripts = (RESERVE, HOLD, REPORT_UNDELIVERED, LIFT, READ, WRITE)
        self._reserve, self._hold, self._report_undelivered, self._lift, self._read, self._write = map(
            redis.register_script, scripts
        )

    def reserve(
        self, furthest: float, most: int, hold: float, answers: int, last: int, why: str = "", last_lifting: int = 0
    ) -> Reservation | None:
        """Reserve at most `most` slots within `furthest` seconds; report answers, and a hold that Redis may have
        forgotten. None: Redis has no sound state of this license. `answers`: how many came since the last reservation;
        `last`, in microseconds, is the last of their slots. `hold` is in seconds, 0 for none; `why` is its reason, and
        `last_lifting` when a person last ended a hold, as far as this process knows."""
        held: list[str | int] = [math.ceil(hold * MICROSECONDS), why, last_lifting]
        # Redis learns once a second that this process delivers: telling it with every answer would be slower.
        process, now = "", time.monotonic()
        if answers and now - self._delivery_told_at >= DELIVERY_TOLD_EVERY:
            process, self._delivery_told_at = self._process, now
        asked = int(furthest * MICROSECONDS), most
        found = self._reserve(keys=self._keys, args=[*self._bounds, *held, answers, last, process, *asked])
        return Reservation(*found) if found else None

    def hold(self, seconds: float, why: str) -> int:
        """Hold the fleet; return when a person last ended a hold."""
        return int(self._hold(keys=self._keys, args=[*self._bounds, math.ceil(seconds * MICROSECONDS), why]))

    def report_undelivered(self, seconds: float, why: str) -> tuple[bool, int]:
        """Hold the fleet, unless another process has just delivered; then return True, because this process alone
        fails. Also returns when a person last ended a hold."""
        report: list[str | int] = [
            math.ceil(seconds * MICROSECONDS),
            why,
            self._process,
            int(DELIVERED_WITHIN * MICROSECONDS),
        ]
        is_alone, last_lifting = self._report_undelivered(keys=self._keys, args=[*self._bounds, *report])
        return bool(is_alone), last_lifting

    def lift(self) -> int:
        """End the fleet's hold; return when that was."""
        return int(self._lift(keys=self._keys, args=[*self._bounds, KEPT_MILLISECONDS]))

    def read_held_until(self) -> int:
        """Read until when the fleet holds; 0 if it does not, or if the state is unreadable: the next reservation
        replaces it then."""
        try:
            return int(self._redis.hget(self._keys[0], "held_until") or 0)
        except ValueError:
            return 0

    def read(self) -> Reading:
        """Read the state, with Redis' time. An unsound state is removed from Redis."""
        seconds, microseconds, state = self._read(keys=self._keys, args=self._bounds)
        parts = [_decode(part) for part in state]
        kept = dict(zip(parts[::2], parts[1::2], strict=True))

        def at(name: str) -> float:
            return float(kept.get(name, 0)) / MICROSECONDS

        return Reading(
            parse_search(kept),
            int(kept.get("version", 0)),
            int(kept.get("answers", 0)),
            at("last"),
            int(seconds) + int(microseconds) / MICROSECONDS,
            at("held_until"),
            at("next_at"),
            at("held_since"),
            kept.get("held_why", ""),
            int(float(kept.get("lifted", 0))),
            int(kept.get("slots", 0)),
        )

    def write(self, search: Search, version: int, slots: int) -> bool:
        """Write this search if the state still has this version; otherwise write nothing and return False. `slots`: how
        many had been given out when the state was read."""
        pairs = [part for pair in write_fields(search).items() for part in pair]
        return bool(self._write(keys=self._keys, args=[version, KEPT_MILLISECONDS, slots, *pairs]))


def write_fields(search: Search) -> dict[str, float | str]:
    """Make the fields in which Redis keeps a search."""
    values: dict[str, float | str] = {}
    for field in fields(search):
        value = getattr(search, field.name)
        values[field.name] = _write_path(value) if isinstance(value, tuple) else float(value)
    return values | {
        "interval": math.ceil(MICROSECONDS / search.rate),
        "counted_since": int(search.since * MICROSECONDS),
        "look_from": int(search.review_due_at * MICROSECONDS),
    }


def parse_search(kept: Mapping[str, str]) -> Search | None:
    """Make a search from Redis' fields; None if there is none, if another program version wrote it with other fields,
    or if it is unsound."""
    if not kept.keys() >= {"interval", *(field.name for field in fields(Search))}:
        return None
    try:
        values: dict[str, Any] = {
            field.name: _parse_path(kept["path"]) if field.name == "path" else float(kept[field.name])
            for field in fields(Search)
        }
    except (ValueError, TypeError):
        return None
    numbers = [value for value in values.values() if isinstance(value, float)]
    if not all(map(math.isfinite, numbers)) or values["rate"] <= 0:
        return None
    if 0 < values["climb"] < LEAST_CLIMB:
        return None
    return Search(**values | {"is_fixed": bool(values["is_fixed"])})


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _write_path(path: Path) -> str:
    return ";".join(",".join(f"{number:.9g}" for number in leg) for leg in path)


def _parse_path(text: str) -> Path:
    """Read a path. Raises ValueError, TypeError if the text is not one."""
    rows = [[float(number) for number in row.split(",")] for row in text.split(";") if row]
    path = tuple(Leg(seconds, sent, is_refused == 1) for seconds, sent, is_refused in rows)
    if not all(math.isfinite(leg.sent) and 0 < leg.seconds < math.inf and leg.sent >= leg.is_refused for leg in path):
        raise ValueError("a leg is not valid")
    return path
