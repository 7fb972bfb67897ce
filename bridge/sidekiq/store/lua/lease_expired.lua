-- Marks leases that have run out (negative score: nobody may renew them or claim under them) and names them.
-- KEYS  1 bridge:lease
-- ARGV  1 the caller's identity (never returned)  2 "all", or "ended": only those that their own keeper ended (score 0)
--       and those already marked by a reaper that died
-- Result: identities to be reaped
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for _, identity in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2] == 'all' and now or 0)) do
  if identity ~= ARGV[1] then
    redis.call('ZREM', KEYS[1], identity)
    redis.call('ZADD', KEYS[1], -now, identity)
    found[#found + 1] = identity
  end
end
return found
