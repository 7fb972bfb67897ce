-- Ends a lease whose holder holds nothing any more; one that still holds jobs is only marked, for a reaper.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 bridge:fence:<identity>, which a claim without a lease does not need
--       4 bridge:arrived:<identity>: while it is there, its lists may hold jobs
-- ARGV  1 identity  2 the mark: 0 from its holder or keeper, which may still renew it; -1 from a reaper, which leaves jobs that
--       Redis refuses to move: their holder must not renew
--       3 from a keeper whose worker is gone: its lists may hold jobs though Redis has lost their names, so a reaper looks
-- Result: number of jobs still held, and one more where lists may hold some
local held = redis.call('HLEN', KEYS[2]) + redis.call('EXISTS', KEYS[4])
local was_there = redis.call('ZREM', KEYS[1], ARGV[1]) == 1
if held > 0 or (ARGV[3] and was_there) then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) else redis.call('DEL', KEYS[3]) end
return held
