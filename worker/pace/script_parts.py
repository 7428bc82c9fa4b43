"""The parts that several of the scripts in Redis share; worker.pace.scripts puts them together, and tells of the units
and of the bounds in ARGV."""

from __future__ import annotations

# The beginning of every script: its bounds, the time, and an empty list of fields to write.
BEGINNING = """
local longest_wait, longest_hold = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local written = {}
"""

# The condition on what was read of a state that makes it sound. A comparison with what is no number (NaN) is false, so
# that is unsound as well. A review of the rate is due a few seconds after the counting began, at the latest.
IS_SOUND = """
  interval > 0 and next_at - now <= longest_wait + interval and held_until - now <= longest_hold
    and since - now <= math.max(longest_wait + interval, longest_hold)
    and look_from - now <= math.max(longest_wait + interval, longest_hold) + 10000000
"""

# Functions that add a field and its value to what is to be written.
WRITING = """
local function write(name, text)
  written[#written + 1] = name
  written[#written + 1] = text
end
local function write_time(name, microseconds) write(name, string.format('%.0f', microseconds)) end
"""

# A function that holds the fleet, and returns when a person lifted a hold last, 0 for never. It never shortens a hold.
# A hold that is told again a moment later keeps its reason.
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
