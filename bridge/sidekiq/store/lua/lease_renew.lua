-- Takes or renews a lease. ZREM before ZADD, because a script whose first write frees memory also runs at maxmemory.
-- KEYS  1 bridge:lease
-- ARGV  1 identity  2 length in ms  3 "register" or "renew"
-- The score ends in .5: this release owns a due entry before client middleware runs for it (older ones write whole numbers).
-- Result: end of the lease in ms of Redis TIME; 0 when it is gone or being reaped (fenced)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == 'renew' and (not score or tonumber(score) < 0) then return 0 end
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], till + 0.5, ARGV[1])
return till
