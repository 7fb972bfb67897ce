-- Takes or renews a lease. ZREM before ZADD, because a script whose first write frees memory also runs at maxmemory.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 bridge:arrived:<identity>
-- ARGV  1 identity  2 length in ms  3 "register" or "renew"
-- A lease that is gone though its holder has jobs, or lists for them, was lost, not reaped: it is taken again.
-- The score's fraction is the length in s / 1024. Releases before wrote whole numbers; they ran client middleware for due
-- entries that they did not own.
-- Result: end of the lease in ms of Redis TIME; 0 when it is gone or being reaped (fenced)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == 'renew' and not score and redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then return 0 end
if ARGV[3] == 'renew' and tonumber(score or 0) < 0 then return 0 end
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + math.floor(tonumber(ARGV[2]))
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], till + math.ceil(tonumber(ARGV[2]) / 1000) % 1024 / 1024, ARGV[1])
return till
