-- Included by the limit scripts, behind limit_rate.lua: how many jobs may go at one gate, and the one that goes.
-- How many starts the rate allows now.
local function free_starts(at, by)
  local one = rate(at, by)
  local least, most = 0, math.max(0, math.floor((now - one.due) / one.interval + 1 + ROUNDING))
  if one.noted > 0 then most = math.min(most, one.noted) end
  if one.interval > one.early then most = math.min(most, one.behind_last <= now + ROUNDING and 1 or 0) end
  while least < most do
    local middle = math.ceil((least + most) / 2)
    if behind_window(one, middle - 1) <= now + ROUNDING then least = middle else most = middle - 1 end
  end
  return least
end

-- How many more jobs may go now.
local function room(at, by)
  local left = math.huge
  if ARGV[by + 1] ~= '' then left = tonumber(ARGV[by + 1]) - taken(KEYS[at]) end
  if ARGV[by + 2] ~= '' then left = math.min(left, free_starts(at, by)) end
  return left - taken(KEYS[at + 1])
end

-- Takes one place for `holder` until `till` (s, or "inf"), and one start.
local function enter(at, by, id, holder, till)
  if ARGV[by + 2] ~= '' then note_start(at, by) end
  redis.call('ZREM', KEYS[at + 1], id, '@' .. id)
  if ARGV[by + 1] ~= '' then
    redis.call('ZADD', KEYS[at], till, holder)
    local last = redis.call('ZRANGE', KEYS[at], -1, -1, 'WITHSCORES')[2]
    if last == 'inf' then redis.call('PERSIST', KEYS[at]) else redis.call('EXPIREAT', KEYS[at], math.ceil(last) + 60) end
  end
end
