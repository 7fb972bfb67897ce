-- Announces a list into which a watch of this worker will move jobs. A worker without a lease may not.
-- KEYS  1 bridge:lease  2 bridge:arrived:<identity>
-- ARGV  1 identity  2 watch: <number>:<queue>  3 number of lists that the worker has announced and not closed
-- Result 1, or 0 when the lease is gone or a reaper is at work on it
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) < 0 then return 0 end
-- Redis has lost some of their names: this mark has the reaper search all keys for their lists. No list has the number 0.
if redis.call('SCARD', KEYS[2]) < tonumber(ARGV[3]) then redis.call('SADD', KEYS[2], '0:') end
redis.call('SADD', KEYS[2], ARGV[2])
return 1
