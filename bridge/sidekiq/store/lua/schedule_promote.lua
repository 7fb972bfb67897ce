-- Moves one due entry from a sorted set into its queue, only if it is still there (exactly once among competing pollers).
-- KEYS  1 retry or schedule  2 queue:<name>  3 queues
-- ARGV  1 member  2 payload to push
-- Result 1, or 0 when another client took it
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'list' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is no list') end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.pcall('SADD', KEYS[3], string.sub(KEYS[2], 7))
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
