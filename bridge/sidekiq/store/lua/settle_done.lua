-- Settles jobs that were performed: many at once, each only if this worker still holds it.
-- KEYS  1 bridge:inflight:<identity>  2 <identity>:work  3 <identity>:workers  4..7 counters
-- ARGV  1 TTL of daily counters in s  2.. tokens
-- Result: the tokens that were not held (fenced)
--@include counters
local fenced, tokens = {}, {}
for i = 2, #ARGV do
  tokens[i - 1] = ARGV[i]
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 0 then fenced[#fenced + 1] = ARGV[i] end
end
redis.pcall('HDEL', KEYS[2], unpack(tokens)); redis.pcall('HDEL', KEYS[3], unpack(tokens))
count(4, #tokens - #fenced, 0, ARGV[1])
return fenced
