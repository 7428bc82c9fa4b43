"""The scripts that keep a license's pace in Redis, one hash a license. Redis runs each as a whole.

All times are in microseconds of Redis' own clock. ARGV[1] and ARGV[2] of each script are bounds, in microseconds: the
longest that anybody waits for a slot, and the longest hold. A state with times further ahead than they allow was
written while Redis' clock was ahead, and nobody could wait for its slots: it is unsound."""

from __future__ import annotations

from worker.pace.script_parts import BEGINNING, HOLDING, IS_SOUND, WRITING

# Reserves slots, by the generic cell rate algorithm (GCRA) without a burst: slots lie an interval apart, and none is
# saved up while nobody asks.
#
# ARGV after the bounds: the hold from now on (0 = none), its reason, and the last lifting that the process has heard
# of; the number of answers that came since its last reservation, the last of their slots, and the process that had them
# (empty where Redis was told of that a moment ago); then for each slot that is asked for, how far away it may be.
#
# A hold that comes with a reservation is one that Redis may have forgotten. It counts only if none is in force, for
# repeated each time it would move by the time that the message takes; and not if a person has lifted it since. An
# answer counts only for the rate that its slot was given at.
#
# Returns nothing if there is no state: nobody has begun, Redis was wiped, or its state is unsound. Otherwise what is
# the same for all slots (until when the fleet holds; the interval; since when answers count; 1 if there are enough of
# them to review the rate; the last lifting), and then for each slot 1 if it is reserved, 0 if it is too far away, when
# it is due, and how far away that is.
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
local found = {held_until, interval, since, last >= look_from and 1 or 0, lifted}
local slot, reserved = math.max(now, next_at, held_until), 0
for asked = 9, #ARGV do
  local is_reserved = slot - now <= tonumber(ARGV[asked])
  for _, part in ipairs({is_reserved and 1 or 0, slot, slot - now}) do table.insert(found, part) end
  if is_reserved then slot, reserved = slot + interval, reserved + 1 end
end
if reserved > 0 then
  for _, part in ipairs({'next_at', string.format('%.0f', slot),
    'slots', string.format('%.0f', (tonumber(state[8] or 0) or 0) + reserved)}) do
    table.insert(written, part)
  end
end
if #written > 0 then redis.call('HSET', KEYS[1], unpack(written)) end
return found
"""
)

# Holds the fleet. ARGV after the bounds: the hold from now on, and its reason. Returns when a person lifted a hold
# last.
HOLD = (
    BEGINNING
    + HOLDING
    + """
return hold(tonumber(ARGV[3]), ARGV[4])
"""
)

# Holds the fleet after a request could not be delivered, unless another process delivers. ARGV after the bounds: as of
# HOLD; the process that could not deliver; and for how long another's delivery shows that PingOne can be reached.
# Returns 1 if this process alone must hold, 0 if the fleet holds now; and when a person lifted a hold last.
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

# Ends the fleet's hold. ARGV after the bounds: milliseconds for which to keep the state, if there was none before.
# Returns when the hold was lifted, which is another number each time, even if Redis is wiped in between.
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
# that asks writes a new one; a hold in it that is sound stays.
READ = (
    BEGINNING
    + WRITING
    + """
local TEXTS = {held_why = true, delivered_by = true, marks = true, refusals = true}
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

# Writes a changed search. ARGV: the version that the change was made from, milliseconds to keep the state for, how many
# slots the change knew of, fields and values. Slots that were given out meanwhile count for the next one. Returns 1, or
# 0 if another process was first.
WRITE = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) ~= tonumber(ARGV[1]) then return 0 end
local slots = (tonumber(redis.call('HGET', KEYS[1], 'slots') or 0) or 0) - tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'answers', 0, 'last', 0,
  'slots', string.format('%.0f', math.max(slots, 0)), unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
