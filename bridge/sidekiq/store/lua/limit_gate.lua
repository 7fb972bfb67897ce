-- Included by the limit scripts. A gate is one limit for one key.
-- KEYS[1..4]: schedule, bridge:waiting, bridge:claiming, bridge:lines (limit_missing.lua)
-- KEYS[at..at+3]: its places, its reserved places, its waiting jobs, its next start. "@<id>" among the reserved places: less the time
-- at which a job that has left the line was claimed
-- ARGV[by..by+3]: "<limit>:<key>", most places ("" = any number), s between two starts ("" = none), s by which a start may catch up
-- All times are Redis TIME in s. A place or reservation whose time is over does not count.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function text(seconds) return string.format('%.6f', seconds) end

local function taken(key) return redis.call('ZCOUNT', key, '(' .. text(now), '+inf') end

-- A start may catch up only while jobs wait, so no burst follows a pause.
local function next_start(at, by)
  local waiting = redis.call('ZCARD', KEYS[at + 2]) + taken(KEYS[at + 1]) > 0
  return math.max(tonumber(redis.call('GET', KEYS[at + 3]) or 0), waiting and now - tonumber(ARGV[by + 3]) or now)
end

-- How many more jobs may go now.
local function room(at, by)
  local left = math.huge
  if ARGV[by + 1] ~= '' then left = tonumber(ARGV[by + 1]) - taken(KEYS[at]) end
  if ARGV[by + 2] ~= '' then
    left = math.min(left, math.max(0, math.floor((now - next_start(at, by)) / tonumber(ARGV[by + 2]) + 1.000001)))
  end
  return left - taken(KEYS[at + 1])
end

-- Takes one place for `holder` until `till` (s, or "inf"), and one start.
local function enter(at, by, id, holder, till)
  local after = ARGV[by + 2] ~= '' and next_start(at, by) + tonumber(ARGV[by + 2])
  redis.call('ZREM', KEYS[at + 1], id, '@' .. id)
  if ARGV[by + 1] ~= '' then
    redis.call('ZADD', KEYS[at], till, holder)
    local last = redis.call('ZRANGE', KEYS[at], -1, -1, 'WITHSCORES')[2]
    if last == 'inf' then redis.call('PERSIST', KEYS[at]) else redis.call('EXPIREAT', KEYS[at], math.ceil(last) + 60) end
  end
  if after then redis.call('SET', KEYS[at + 3], text(after), 'EX', math.max(1, math.ceil(after - now + tonumber(ARGV[by + 3])))) end
end
