-- Takes one due entry out of its set into the in-flight hash of this worker, before client middleware runs for it.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 retry or schedule  4 queue:<name>
-- ARGV  1 identity  2 token (negative: being promoted)  3 member
--       4 in-flight entry: format version, queue, and the payload as it is pushed without middleware
--       5 last moment in ms of Redis TIME: a command that a cut connection delivers later does nothing
-- Result 1, 0 when another process took it, -1 when this worker may hold nothing now
local found = redis.call('TYPE', KEYS[4]).ok
if found ~= 'list' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[4] .. ' is not a list') end
local lease, time = redis.call('ZSCORE', KEYS[1], ARGV[1]), redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease or tonumber(lease) < now or now > tonumber(ARGV[5]) then return -1 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return redis.error_reply('TOKEN used twice') end
if redis.call('ZREM', KEYS[3], ARGV[3]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return 1
