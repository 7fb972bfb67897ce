-- Marks leases that are over (negative score: no worker may renew them or claim under them) and names them.
-- KEYS  1 bridge:lease
-- ARGV  1 the caller's identity (never returned)
--       2, 3 first and last Redis TIME in ms at which this may judge by TIME; outside, Redis' clock has jumped or the
--       command came late, and only leases are named that their own keeper ended (score 0) or that a reaper that died has marked
--       4.. identity and end of further leases that are over, if they still end then
-- Result: identities to be reaped
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local judge = now >= tonumber(ARGV[2]) and now <= tonumber(ARGV[3])
local over, found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', judge and now or 0), {}
for i = 4, #ARGV, 2 do
  local till = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0)
  if till == tonumber(ARGV[i + 1]) and till > (judge and now or 0) then over[#over + 1] = ARGV[i] end
end
for _, identity in ipairs(over) do
  if identity ~= ARGV[1] then
    redis.call('ZREM', KEYS[1], identity)
    redis.call('ZADD', KEYS[1], -now, identity)
    found[#found + 1] = identity
  end
end
return found
