-- Included by claim_marked.lua and claim_exact_marked.lua: notes in KEYS[1] that a worker has claimed jobs that may have a limit.
local function us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function note_claim(me, began, jobs)
  if jobs == 0 then return end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', began / 1000000 - 60))
  redis.call('ZADD', KEYS[1], string.format('%.6f', began / 1000000), string.format('%s %d %.0f', me, jobs, began))
  redis.call('EXPIRE', KEYS[1], 60)
end
