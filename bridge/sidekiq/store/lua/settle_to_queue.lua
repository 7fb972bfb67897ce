-- Settles one job back into its queue: to the end that runs next (given back) or behind all others (interrupted).
-- KEYS  1 bridge:inflight:<identity>  2 <identity>:work  3 <identity>:workers  4..7 counters  8 queue:<name>  9 queues
--       10 bridge:recovering
-- ARGV  1 token  2 TTL of daily counters in s  3 processed  4 failed  5 RPUSH or LPUSH  6 payload
--       7 jid of a job that was recovered and is given back ("" = none)  8 TTL of bridge:recovering in s
-- Result 1, or 0 when this worker does not hold the job (fenced; nothing is written)
--@include counters
local wrong = check(KEYS[8], 'list')
if wrong then return wrong end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.pcall('HDEL', KEYS[2], ARGV[1]); redis.pcall('HDEL', KEYS[3], ARGV[1])
redis.call(ARGV[5], KEYS[8], ARGV[6])
redis.pcall('SADD', KEYS[9], string.sub(KEYS[8], 7))
if ARGV[7] ~= '' then redis.pcall('SADD', KEYS[10], ARGV[7]); redis.pcall('EXPIRE', KEYS[10], ARGV[8]) end
count(4, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[2])
return 1
