-- Renews the places of jobs that a process without a lease runs. A place whose time was over is taken back only while it is there.
-- KEYS  places of gates
-- ARGV  1 s from now until which the places are held  2.. the holder at each of the KEYS
-- Result {now in s, number of a place that is gone, ...}
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local till, reply = now + tonumber(ARGV[1]), {string.format('%.6f', now)}
for i, places in ipairs(KEYS) do
  if redis.call('ZSCORE', places, ARGV[i + 1]) then
    redis.call('ZADD', places, string.format('%.6f', till), ARGV[i + 1])
    local last = redis.call('ZRANGE', places, -1, -1, 'WITHSCORES')[2]
    if last ~= 'inf' then redis.call('EXPIREAT', places, math.ceil(last) + 60) end
  else
    reply[#reply + 1] = i
  end
end
return reply
