-- Adjusts this process' places in one queue that sidekiq-limit_fetch limits: one for each job held, and more for a claim.
-- KEYS  1 limit_fetch:probed:<queue>  2 limit_fetch:busy:<queue>  3 limit_fetch:limit:<queue>  4 limit_fetch:process_limit:<queue>
--       5 limit_fetch:pause:<queue>
-- ARGV  1 name of this process  2 jobs held  3 further jobs wanted
-- Result {further jobs that it may take, free places after that}
local function mine(key)
  local count = 0
  for _, name in ipairs(redis.call('LRANGE', key, 0, -1)) do if name == ARGV[1] then count = count + 1 end end
  return count
end

local function adjust(key, count)
  local have = mine(key)
  for _ = have + 1, count do redis.call('RPUSH', key, ARGV[1]) end
  if have > count then redis.call('LREM', key, have - count, ARGV[1]) end
end

local held, most = tonumber(ARGV[2]), 1000000
local limit = tonumber(redis.call('GET', KEYS[3]) or most) or most
local own = tonumber(redis.call('GET', KEYS[4]) or most) or most
local others = redis.call('LLEN', KEYS[1]) - mine(KEYS[1])
local room = math.max(0, math.min(limit - others, own) - held)
if redis.call('EXISTS', KEYS[5]) == 1 then room = 0 end
local taken = math.min(room, tonumber(ARGV[3]))
adjust(KEYS[1], held + taken)
adjust(KEYS[2], held)
return {taken, room - taken}
