-- Ends a lease whose holder holds nothing any more; one that still holds jobs is only marked as expired, for a reaper.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>
-- ARGV  1 identity
-- Result: number of jobs still held
local held = redis.call('HLEN', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
if held > 0 then redis.call('ZADD', KEYS[1], 0, ARGV[1]) end
return held
