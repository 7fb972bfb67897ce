-- Moves one job out of a dead (or fenced) worker's hands, or one of unknown outcome: back to the end of its queue that
-- runs next, or to the dead set when it was found so for the `limit`-th time (poison pill).
-- KEYS  1 bridge:inflight:<identity>  2 queue:<name>  3 bridge:recovered:<jid>  4 dead  5 queues  6 bridge:recovering
--       7 bridge:notices  8 bridge:notices-dropped: only where Ruby is to be told
-- ARGV  1 token  2 payload  3 TTL of the counter in s  4 limit  5 buried payload ("" = never bury)  6 now in s
--       7 dead: remove scores up to  8 dead: remove ranks up to
--       9 jid ("" = none): while it waits in its queue bridge:recovering holds it  10 notice of a burial, without its payload  11 most notices
-- Result: 0 not there any more, 1 given back, 2 buried
--@include counters
--@include notice
local wrong = check(KEYS[2], 'list') or check(KEYS[4], 'zset')
if wrong then return wrong end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
local times = redis.pcall('INCR', KEYS[3])
-- Only the first time: a window that slid with each would never close.
if times == 1 then redis.pcall('EXPIRE', KEYS[3], ARGV[3]) end
if type(times) == 'number' and times >= tonumber(ARGV[4]) and ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[4], ARGV[6], ARGV[5])
  redis.pcall('DEL', KEYS[3]); redis.pcall('SREM', KEYS[6], ARGV[9])
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[7])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, ARGV[8])
  note(7, (ARGV[10] or '') .. ARGV[5], ARGV[11])
  return 2
end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.pcall('SADD', KEYS[5], string.sub(KEYS[2], 7))
if ARGV[9] ~= '' then redis.pcall('SADD', KEYS[6], ARGV[9]); redis.pcall('EXPIRE', KEYS[6], ARGV[3]) end
return 1
