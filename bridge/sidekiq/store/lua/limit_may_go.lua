-- Included by limit_take.lua, behind limit_line.lua: who may go.
local member = ARGV[4] .. ' ' .. ARGV[5]

-- A job with a reservation needs only room. Any other also waits behind the line.
local function may_go(at, by)
  if redis.call('ZSCORE', KEYS[at], ARGV[2]) then return true end
  local reserved = tonumber(redis.call('ZSCORE', KEYS[at + 1], ARGV[4]) or 0)
  local left = room(at, by) + (reserved > now and 1 or 0)
  if reserved > 0 then return left > 0 end
  local before = redis.call('ZCARD', KEYS[at + 2])
  return left > 0 and (before == 0 or (before == 1 and redis.call('ZSCORE', KEYS[at + 2], member)))
end
