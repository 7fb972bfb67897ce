-- Announces a list into which a watch of this worker will move jobs. A worker without a lease may not.
-- KEYS  1 bridge:lease  2 bridge:arrived:<identity>
-- ARGV  1 identity  2 watch: <number>:<queue>
-- Result 1, or 0 when the lease is gone or a reaper is at work on it
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) < 0 then return 0 end
redis.call('SADD', KEYS[2], ARGV[2])
return 1
