-- Pushes a due entry that a worker has taken out of its set. No run began, so nothing is counted.
-- KEYS  1 bridge:inflight:<identity>  2 queue:<name>  3 queues
-- ARGV  1 token  2 payload
-- Result 1, or 0 when this worker does not hold the entry (fenced; nothing is written)
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'list' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a list') end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.pcall('SADD', KEYS[3], string.sub(KEYS[2], 7))
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
