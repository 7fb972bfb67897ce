-- Takes the job at the right end of one queue, if it still is exactly these bytes (native jobs while the sidecar is away).
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 paused  4 queue:<name>
-- ARGV  1 identity  2 token  3 entry prefix  4 payload
-- Result {'OK', now in ms} or {'FENCED'} or {'EXPIRED'} or {'GONE'}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease or tonumber(lease) < 0 then return {'FENCED'} end
if tonumber(lease) < now then return {'EXPIRED'} end
local name = string.sub(KEYS[4], 7)
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return redis.error_reply('TOKEN used twice') end
if redis.call('SISMEMBER', KEYS[3], name) == 1 then return {'GONE'} end
if redis.call('LINDEX', KEYS[4], -1) ~= ARGV[4] then return {'GONE'} end
redis.call('RPOP', KEYS[4])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. name .. '\n' .. ARGV[4])
return {'OK', now}
