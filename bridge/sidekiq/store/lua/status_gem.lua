-- Effect of a settlement: the end of a native job in the hash of the gem sidekiq-status.
-- KEYS  1 sidekiq:status:<jid>
-- ARGV  1 now in s  2 the gem's word; orphan: failed if the settlement buried the job, else queued
--       3 "1": only where the gem has a hash of this job
local status = ARGV[2]
if status == 'orphan' then status = settled == 2 and 'failed' or 'queued' end
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], 'status', status, 'update_time', math.floor(tonumber(ARGV[1])))
if redis.call('TTL', KEYS[1]) < 1800 then redis.call('EXPIRE', KEYS[1], 1800) end
redis.pcall('PUBLISH', 'status_updates', string.sub(KEYS[1], 16))
