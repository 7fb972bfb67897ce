-- Included by the limit scripts, behind limit_gate.lua: the next and the last start that a rate has noted (limit_rate.lua).
-- Redis' clock may go back (NTP, a failover). The starts move with it, so their window holds. Without them a second window would begin.
local ROUNDING = 0.000001

local function moved_back(starts, seconds)
  local times, ttl = redis.call('LRANGE', starts, 0, -1), redis.call('PTTL', starts)
  for i, each in ipairs(times) do times[i] = text(each - seconds) end
  redis.call('DEL', starts)
  redis.call('RPUSH', starts, unpack(times))
  redis.call('PEXPIRE', starts, ttl)
  return times
end

local function known_starts(starts)
  local known = redis.call('LRANGE', starts, 0, 1)
  local ahead = tonumber(known[2] or 0) - now
  if ahead > ROUNDING then known = moved_back(starts, ahead) end
  return tonumber(known[1] or 0), tonumber(known[2] or 0)
end
