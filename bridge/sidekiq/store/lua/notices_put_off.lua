-- Puts a notice off that could not be told: behind all others, which must not wait for it.
-- KEYS  1 bridge:notices  2 bridge:telling
-- ARGV  1 notice  2 its id  3 ms until it may be taken again  4 tries so far  5 boot id that was asked ("" = none)
-- Result 1, or 0 when it is told, or was dropped
redis.call('HDEL', KEYS[2], ARGV[2])
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f %s %s', till, ARGV[4], ARGV[5]))
return 1
