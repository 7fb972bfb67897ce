-- Included first by scripts that move batches on: names, the time, and members that join.
-- The parents of a batch and the queues of its callbacks are data of the batch, so their keys are not in KEYS.
local time = redis.call('TIME')
local seconds = string.format('%d.%06d', time[1], time[2])
local millis = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local function meta(bid) return 'bridge:batch:' .. bid end
local function members(bid) return 'bridge:batch:' .. bid .. ':jobs' end
local function known(bid) return redis.call('HEXISTS', meta(bid), 'created_at') == 1 end

-- A batch stays until its last scheduled job has had its time: batches_prune.lua reads this.
local function stay(bid, at)
  if tonumber(at) > tonumber(redis.call('HGET', meta(bid), 'until') or time[1]) then redis.call('HSET', meta(bid), 'until', at) end
end

-- A batch waits for its members: jids, and "batch:<bid>" of its child batches.
local function join(bid, member)
  if not known(bid) or redis.call('HEXISTS', meta(bid), 'success_at') == 1 then return end
  if redis.call('HSETNX', members(bid), member, 'w') == 1 then
    redis.call('HINCRBY', meta(bid), string.sub(member, 1, 6) == 'batch:' and 'children' or 'total', 1)
  end
end
