-- Moves one waiting job from its queue to the dead set, only if it is still there.
-- KEYS  1 queue:<name>  2 dead  3 bridge:notices  4 bridge:notices-dropped (3, 4: only where Ruby is to be told)
-- ARGV  1 payload as the queue holds it  2 payload to bury  3 now in s  4 remove scores up to  5 remove ranks up to
--       6 notice  7 most notices
-- Result 1, or 0 when another client took it
--@include notice
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'zset' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a sorted set') end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, ARGV[5])
note(3, ARGV[6], ARGV[7])
return 1
