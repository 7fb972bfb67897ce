-- Included by limit_shift.lua: one worker at a time renews a line. Jobs that wait from now on have their places behind those that it
-- moves.
if ARGV[1] == '+inf' then
  local now = tonumber(redis.call('TIME')[1])
  if now < tonumber(redis.call('HGET', KEYS[3], '+' .. ARGV[4]) or 0) then return {''} end
  redis.call('HSET', KEYS[3], '+' .. ARGV[4], now + 30)
  redis.call('HINCRBY', KEYS[3], ARGV[4], string.format('%.0f', ARGV[2] * 1000000))
end

-- The payload of a job among those of its score.
local function payload_of(id, payloads)
  for _, payload in ipairs(payloads or {}) do
    if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then return payload end
  end
end
