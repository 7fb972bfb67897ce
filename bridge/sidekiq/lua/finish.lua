-- Settles jobs that were performed: many at once, each only if this worker still holds it.
-- KEYS  1 bridge:inflight:<identity>  2 <identity>:work  3 <identity>:workers  4..7 counters
-- ARGV  1 TTL of daily counters in s  2.. tokens
-- Result: the tokens that were not held (fenced)
--@include counters
local fenced, done = {}, 0
for i = 2, #ARGV do
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
    done = done + 1
    redis.pcall('HDEL', KEYS[2], ARGV[i]); redis.pcall('HDEL', KEYS[3], ARGV[i])
  else
    fenced[#fenced + 1] = ARGV[i]
  end
end
count(4, done, 0, ARGV[1])
return fenced
