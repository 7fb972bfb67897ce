-- Ends a lease whose holder holds nothing any more; one that still holds jobs is only marked, for a reaper.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 bridge:fence:<identity>, which a claim without a lease does not need
-- ARGV  1 identity  2 the mark: 0 from its holder or keeper, which may still renew it; -1 from a reaper, which leaves jobs that
--       Redis refuses to move: their holder must not renew
-- Result: number of jobs still held
local held = redis.call('HLEN', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
if held > 0 then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) else redis.call('DEL', KEYS[3]) end
return held
