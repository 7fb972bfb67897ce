-- Included by the settlement scripts: adds to Sidekiq's counters of all time and of one UTC day.
-- KEYS[at..at+3]: stat:processed, stat:processed:<day>, stat:failed, stat:failed:<day>
-- A counter of a wrong type must not undo a settlement that has begun (Lua does not roll back): hence pcall.
local function count(at, processed, failed, ttl)
  if processed > 0 then
    redis.pcall('INCRBY', KEYS[at], processed)
    redis.pcall('INCRBY', KEYS[at + 1], processed)
    redis.pcall('EXPIRE', KEYS[at + 1], ttl)
  end
  if failed > 0 then
    redis.pcall('INCRBY', KEYS[at + 2], failed)
    redis.pcall('INCRBY', KEYS[at + 3], failed)
    redis.pcall('EXPIRE', KEYS[at + 3], ttl)
  end
end

local function check(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
