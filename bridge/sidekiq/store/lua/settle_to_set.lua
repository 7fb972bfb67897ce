-- Settles one job into a sorted set (retry or dead), or nowhere (discarded), and counts it.
-- KEYS  1 bridge:inflight:<identity>  2 <identity>:work  3 <identity>:workers  4..7 counters  8 retry or dead
--       9 bridge:notices  10 bridge:notices-dropped: only where Ruby is to be told
-- ARGV  1 token  2 TTL of daily counters in s  3 processed  4 failed  5 score in s ("" = discarded)  6 payload
--       7 dead: remove scores up to  8 dead: remove ranks up to (both "" for retry)  9 notice  10 most notices
-- Result 1, or 0 when this worker does not hold the job (fenced; nothing is written)
--@include counters
--@include notice
local wrong = check(KEYS[8], 'zset')
if wrong then return wrong end
-- ZADD refuses a score that is not a number, and by then the job would be out of the hash: Lua does not roll back.
local score = tonumber(ARGV[5])
if ARGV[5] ~= '' and (not score or score ~= score) then return redis.error_reply('ERR score is no number') end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.pcall('HDEL', KEYS[2], ARGV[1]); redis.pcall('HDEL', KEYS[3], ARGV[1])
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[8], ARGV[5], ARGV[6]) end
if ARGV[7] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', ARGV[7])
  redis.call('ZREMRANGEBYRANK', KEYS[8], 0, ARGV[8])
end
count(4, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[2])
note(9, ARGV[9], ARGV[10])
return 1
