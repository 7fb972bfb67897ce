-- Moves a stretch of one line in time: later from its end on, earlier from its head on. So its order is kept, whenever this ends.
-- KEYS  1 schedule  2 waiting jobs of a gate
-- ARGV  1 score to begin at ("(" before it: behind it)  2 s to add  3 most jobs
-- Result: the score that was moved last, as it was before, or "" at the end
local later = tonumber(ARGV[2]) > 0
local command, other_end = later and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE', later and '-inf' or '+inf'
local line = redis.call(command, KEYS[2], ARGV[1], other_end, 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #line, 2 do
  local score, id = line[i + 1], string.match(line[i], '^%S+')
  local moved = string.format('%.6f', score + ARGV[2])
  redis.call('ZREM', KEYS[2], line[i])
  for _, payload in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], score, score)) do
    if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then
      redis.call('ZADD', KEYS[1], moved, payload)
      redis.call('ZADD', KEYS[2], moved, line[i])
      break
    end
  end
end
return line[#line] or ''
