-- Moves an entry that is not a job from retry or schedule to the dead set, where it can be seen.
-- KEYS  1 retry or schedule  2 dead  3 bridge:notices  4 bridge:notices-dropped (3, 4: only where Ruby is to be told)
-- ARGV  1 member  2 payload to bury  3 now in s  4 remove scores up to  5 remove ranks up to
--       6 notice  7 most notices
-- Result 1, or 0 when another client took it
-- Included by scripts that end a job: adds what Ruby is to be told of that end.
-- KEYS[at], KEYS[at+1]: bridge:notices, bridge:notices-dropped; absent where there is nothing to tell
-- most: beyond it the oldest notices are dropped; negative: this one is dropped, because it tells of no death
-- A list of a wrong type must not undo an end that has begun (Lua does not roll back): hence pcall.
local function note(at, entry, most)
  if not KEYS[at] then return end
  local length, room = redis.pcall('LLEN', KEYS[at]), math.abs(most)
  if type(length) ~= 'number' then return end
  local dropped = math.max(0, length + 1 - room)
  if dropped > 0 and tonumber(most) < 0 then
    dropped = 1
  else
    redis.pcall('LPUSH', KEYS[at], entry)
    if dropped > 0 then redis.pcall('LTRIM', KEYS[at], 0, room - 1) end
  end
  if dropped > 0 then redis.pcall('INCRBY', KEYS[at + 1], dropped) end
end
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'zset' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a sorted set') end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, ARGV[5])
note(3, ARGV[6], ARGV[7])
return 1
