-- Included by the limit scripts, behind limit_clock.lua: the starts of a gate with a rate of N in a window.
-- KEYS[at+3]: list of the next start by the schedule, and the times of the last starts, the newest one first
-- ARGV[by+3]: "<s by which a start may come early after a late one> <number of last starts>". With 0 of them no more than that is made up.
-- Otherwise LATE s are: each start waits for its time, for the one before it, and for the one that many before it, which keeps the window.
local LATE = 2

local function rate(at, by)
  local interval, early, noted = tonumber(ARGV[by + 2]), string.match(ARGV[by + 3], '^(%S+) (%d+)$')
  local one = {starts = KEYS[at + 3], interval = interval, early = tonumber(early), noted = tonumber(noted)}
  local due, last = known_starts(one.starts)
  -- A slower rate has written it, or Redis' clock went back and no starts are noted: the next one goes now, and makes up for none.
  if due > now + 2 * interval + ROUNDING then due = now end
  -- A start is made up only while jobs wait, so no burst follows a pause.
  local waiting = redis.call('ZCARD', KEYS[at + 2]) + taken(KEYS[at + 1]) > 0
  one.due = math.max(due, waiting and now - (one.noted > 0 and LATE or one.early) or now)
  one.behind_last = last + interval - one.early
  return one
end

-- When a start is allowed that comes behind `ahead` others from now on.
local function behind_window(one, ahead)
  local before = one.noted > 0 and redis.call('LINDEX', one.starts, one.noted - ahead)
  return before and before + one.noted * one.interval - one.early or 0
end

local function next_start(at, by)
  local one = rate(at, by)
  return math.max(one.due, one.behind_last, behind_window(one, 0))
end

local function note_start(at, by)
  local one = rate(at, by)
  local due = one.due + one.interval
  redis.call('LPOP', one.starts)
  redis.call('LPUSH', one.starts, text(now), text(due))
  redis.call('LTRIM', one.starts, 0, one.noted)
  redis.call('EXPIRE', one.starts, math.ceil(math.max(due - now + math.max(LATE, one.early), one.noted * one.interval)))
end
