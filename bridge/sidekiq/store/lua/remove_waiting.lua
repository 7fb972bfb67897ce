-- Removes one waiting job for good, and tells Ruby.
-- KEYS  1 queue:<name>, retry, schedule or dead  2 bridge:notices  3 bridge:notices-dropped
-- ARGV  1 member  2 notice  3 most notices
-- Result 1, or 0 when another client took it
--@include notice
local is_list = redis.call('TYPE', KEYS[1]).ok == 'list'
local gone = is_list and redis.call('LREM', KEYS[1], 1, ARGV[1]) or redis.call('ZREM', KEYS[1], ARGV[1])
if gone == 0 then return 0 end
note(2, ARGV[2], ARGV[3])
return 1
