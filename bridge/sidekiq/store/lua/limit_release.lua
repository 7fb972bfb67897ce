-- Lets the first jobs of a line go without a limit: each is due in schedule now, in the order of the line.
-- KEYS  1 schedule  2 bridge:waiting  3 waiting jobs of a gate  4 bridge:lines
-- ARGV  1 "<limit>:<key>"  2 most jobs
-- Result: how many jobs are left in the line
local time = redis.call('TIME')
local line = redis.call('ZRANGE', KEYS[3], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #line, 2 do
  local id, score = string.match(line[i], '^%S+'), line[i + 1]
  redis.call('ZREM', KEYS[3], line[i])
  for _, payload in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], score, score)) do
    if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then
      redis.call('ZADD', KEYS[1], string.format('%.6f', time[1] + time[2] / 1000000 + i / 1000000), payload)
      break
    end
  end
end
local left = redis.call('ZCARD', KEYS[3])
if left == 0 then redis.call('ZREM', KEYS[2], ARGV[1]); redis.call('HDEL', KEYS[4], ARGV[1], '+' .. ARGV[1], '=' .. ARGV[1]) end
return left
